"""Artifacts in the stand-in for W&B's server: one counts once its files and its manifest have arrived."""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote


@dataclass
class Artifact:
    """One version of an artifact."""

    name: str
    kind: str
    digest: str
    run: str
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


class Artifacts:
    """All versions, by their identifier; one whose content is there already is made no second time."""

    def __init__(self) -> None:
        self.versions: dict[str, Artifact] = {}
        self._lock = threading.Lock()

    def committed(self) -> dict[str, Artifact]:
        """The versions that are whole, by name; fails where a name has several."""
        whole = [version for version in self.versions.values() if version.committed]
        by_name = {version.name: version for version in whole}
        assert len(by_name) == len(whole)
        return by_name

    def answer(self, query: str, variables: dict[str, Any], url: str) -> dict[str, Any] | None:
        """What W&B's server answers; None for a query about something else."""
        handle = {
            "CreateArtifact": self._create,
            "CreateArtifactManifest": self._create_manifest,
            "CreateArtifactFiles": self._create_files,
            "CommitArtifact": self._commit,
        }.get(query.split()[1])
        with self._lock:
            return handle(variables, url) if handle else None

    def keep(self, path: str, body: bytes) -> None:
        """Keep what was uploaded to `path`, one that an answer named: ID/manifest, or ID/files/NAME."""
        identifier, kind, *name = path.split("/", 2)
        with self._lock:
            version = self.versions[identifier]
            if kind == "manifest":
                version.manifest = json.loads(body)
            else:
                version.files[unquote(name[0])] = body

    def _create(self, variables: dict[str, Any], _: str) -> dict[str, Any]:
        given = variables["input"]
        new = Artifact(
            given["artifactCollectionName"], given["artifactTypeName"], given["digest"], given["runName"]
        )
        same = [
            identifier
            for identifier, version in self.versions.items()
            if (version.name, version.digest) == (new.name, new.digest)
        ]
        identifier = same[0] if same else f"A{len(self.versions)}"
        version = self.versions.setdefault(identifier, new)
        state = "COMMITTED" if version.committed else "PENDING"
        artifact = {"id": identifier, "state": state, "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _create_manifest(self, variables: dict[str, Any], url: str) -> dict[str, Any]:
        identifier = variables["artifactID"]  # of its manifest too
        file = {"id": identifier, "uploadUrl": f"{url}/artifacts/{identifier}/manifest", "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": identifier, "file": file}}}

    def _create_files(self, variables: dict[str, Any], url: str) -> dict[str, Any]:
        edges = []
        for given in variables["input"]["artifactFiles"]:
            identifier, name = given["artifactID"], given["name"]
            node = {
                "uploadUrl": f"{url}/artifacts/{identifier}/files/{quote(name, safe='')}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "storagePath": f"{identifier}/{name}",
                "artifact": {"id": identifier},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _commit(self, variables: dict[str, Any], _: str) -> dict[str, Any]:
        identifier = variables["artifactID"]
        version = self.versions[identifier]
        expected = {name: entry["digest"] for name, entry in version.manifest["contents"].items()}
        arrived = {name: _digest(content) for name, content in version.files.items()}
        version.committed = arrived == expected
        return {"commitArtifact": {"artifact": {"id": identifier, "digest": version.digest}}}


def _digest(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()
