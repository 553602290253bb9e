"""A real browser for tests: headless chromium, driven by the DevTools protocol over a pipe."""

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType

import pytest

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH; on Debian: apt-get install chromium"
)
FLAGS = [
    *["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"],
    *["--disable-component-update", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"],
    "--proxy-server=127.0.0.1:9",  # nothing listens there: the page has no network
]


class Browser:
    """One page in one browser; `messages` gathers what its console said and what it failed to load."""

    def __init__(self, profile: Path):
        read_commands, self._write = os.pipe()
        self._read, write_answers = os.pipe()
        command = [CHROMIUM or "", *FLAGS, f"--user-data-dir={profile}", "about:blank"]

        def as_3_and_4() -> None:  # where chromium looks for its pipe
            os.dup2(os.dup(read_commands), 3)
            os.dup2(os.dup(write_answers), 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=as_3_and_4,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._buffer, self._number, self._session = b"", 0, None
        self.messages: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **parameters: object) -> dict:
        """Send a DevTools command and wait for its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, page: Path, width: int = 1200, height: int = 900) -> None:
        """Open a file in a window of this size, and wait until it and its images are there."""
        self.resize(width, height)
        self.call("Page.navigate", url=page.resolve().as_uri())
        for _ in range(200):
            if (
                self.evaluate("document.readyState") == "complete"
                and self.evaluate("location.protocol") == "file:"
            ):
                break
            time.sleep(0.05)
        self.evaluate(
            "Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 1)"
        )

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window another size, in CSS pixels."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=width < 600, **sizes)

    def evaluate(self, expression: str):
        """The value of a JavaScript expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """Write what the window shows as PNG, or the whole page."""
        shot = self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self, path: Path) -> None:
        """Print the page on A4."""
        sheet = self.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=True)
        path.write_bytes(base64.b64decode(sheet["data"]))

    def _clip(self, whole: bool) -> dict:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _next(self) -> dict:
        while b"\0" not in self._buffer:
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser ended"
            self._buffer += piece
        text, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(text)
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.messages.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.messages.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.messages.append(parameters["entry"]["text"])
            case "Network.loadingFailed":
                self.messages.append(f"not loaded: {parameters}")
        return message
