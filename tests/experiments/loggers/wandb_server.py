"""A small stand-in for W&B's server on the loopback: it keeps what runs upload, and fails when told to."""

import json
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.experiments.loggers.wandb_artifacts import Artifacts

KEY = "0123456789" * 4


@dataclass
class Run:
    """What the server knows of one run."""

    attributes: dict[str, Any] = field(default_factory=dict)  # displayName, groupName, jobType, tags, config
    history: dict[int, dict[str, Any]] = field(
        default_factory=dict
    )  # logged rows by their place in the stream
    summary: dict[str, Any] = field(default_factory=dict)
    files: set[str] = field(default_factory=set)
    beginnings: int = 0  # how often its upload began


class Server(ThreadingHTTPServer):
    """Answers what wandb 0.31 asks.

    `fault` is None, "refuses" (the key), "breaks" (status 500 for everything), "drops" (the connection, when
    history arrives) or "keeps no files" (status 500 for tables and artifacts).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault: str | None = None
        self.runs: dict[str, Run] = defaultdict(Run)
        self.artifacts = Artifacts()
        self.views: list[dict[str, Any]] = []  # workspaces, as they were saved
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients that end early are part of the tests."""

    def keep_upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            run = self.runs[variables["name"]]
            run.beginnings += variables["displayName"] is not None  # later ones send the configuration alone
            run.attributes |= {key: value for key, value in variables.items() if value is not None}
        project = {"id": "UA==", "name": variables["project"], "entity": {"id": "RQ==", "name": "tester"}}
        bucket = {
            "id": "Ug==",
            "name": variables["name"],
            "displayName": variables["displayName"],
            "sweepName": None,
            "historyLineCount": 0,
            "config": "{}",
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def keep_stream(self, run_id: str, files: dict[str, Any]) -> None:
        with self.lock:
            run = self.runs[run_id]
            for name, chunk in files.items():
                lines = [json.loads(line) for line in chunk["content"]]
                if name == "wandb-history.jsonl":
                    run.history |= dict(enumerate(lines, chunk["offset"]))
                elif name == "wandb-summary.json":
                    run.summary = lines[-1]


@contextmanager
def serving() -> Iterator[Server]:
    """A server that answers while the context lasts."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_PUT(self) -> None:
        body = self._body()
        _, kind, rest = self.path.split("/", 2)
        if self.server.fault == "keeps no files":
            self._reply({"error": "disk full"}, 500)
            return
        if kind == "artifacts":
            self.server.artifacts.keep(rest, body)
        else:
            run_id, _, name = rest.partition("/")
            with self.server.lock:
                self.server.runs[run_id].files.add(name)
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if self.server.fault == "breaks":
            self._reply({"error": "out of order"}, 500)
        elif self.path == "/graphql":
            self._answer(json.loads(body))
        elif self.path.endswith("/file_stream"):
            if self.server.fault == "drops":
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.server.keep_stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
            self._reply({"limits": {}})
        else:
            self._reply({})  # W&B's measurements of itself

    def _answer(self, request: dict[str, Any]) -> None:
        query, variables = request["query"], request.get("variables") or {}
        if self.server.fault == "refuses":
            error = {"message": "user is not logged in", "path": ["viewer"]}
            self._reply({"errors": [error], "data": {"viewer": None}}, 401)
        elif artifact := self.server.artifacts.answer(query, variables, self.server.url):
            self._reply({"data": artifact})
        elif "upsertBucket" in query:
            self._reply({"data": self.server.keep_upsert(variables)})
        elif "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.server.url}/upload/{variables['run']}/{name}"}
                for name in variables["files"]
            ]
            self._reply({"data": {"createRunFiles": {"runID": "Ug==", "uploadHeaders": [], "files": files}}})
        elif "upsertView" in query:
            with self.server.lock:
                self.server.views.append(variables)
            view = {"id": "Vg==", "name": variables["name"]}
            self._reply({"data": {"upsertView": {"view": view, "inserted": True}}})
        elif "viewer" in query:
            viewer = {
                "id": "VQ==",
                "entity": "tester",
                "username": "tester",
                "flags": "{}",
                "teams": {"edges": []},
            }
            self._reply({"data": {"viewer": viewer}})
        else:
            self._reply({"data": {"serverInfo": {"features": []}}})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reply(self, content: object, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
