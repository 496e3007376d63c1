"""Serve the Hub's protocol for pushing and loading on loopback, with failures that a test sets."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "Planted" * 5
LARGE = 5000
"""Files of at least this size, and all safetensors files, are uploaded as large files."""


@dataclass
class Repo:
    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b"* lfs\n"}})
    commits: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """(branch, paths that it wrote or deleted) of each commit after the first."""

    def sha(self, branch: str) -> str:
        digest = hashlib.sha1(branch.encode())
        for name, content in sorted(self.branches[branch].items()):
            digest.update(name.encode() + hashlib.sha256(content).digest())
        digest.update(str(len(self.commits)).encode())
        return digest.hexdigest()


@dataclass
class Fault:
    """Pattern of `METHOD path` -> status to return, or 0 to close the connection."""

    pattern: str
    status: int
    times: int = 10**9


class LoopbackHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.received: list[bytes] = []
        """Bodies of all requests."""
        self.part_size: int | None = None
        """If set, large files are requested in parts of this size."""
        self.parts: dict[str, dict[int, bytes]] = {}
        self.lock = threading.Lock()
        self.account: dict[str, Any] = {"name": "kim", "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a client that disconnects."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def _serve(self) -> None:
        self.hub = self.server  # type: ignore[assignment]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        path = unquote(urlsplit(self.path).path)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {path}")
            self.hub.received.append(body)
            for fault in self.hub.faults:
                if fault.times and re.search(fault.pattern, f"{self.command} {path}"):
                    fault.times -= 1
                    if fault.status == 0:
                        self.close_connection = True
                        self.connection.close()
                        return
                    return self._json({"error": "planted"}, fault.status)
            self._route(path, body)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _serve

    def _route(self, path: str, body: bytes) -> None:
        if "/storage/" in path:
            return self._storage(path, body)
        if path.startswith("/api/") and self.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._json({"error": "Invalid credentials"}, 401)
        if path == "/api/whoami-v2":
            return self._json(self.hub.account)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)(?:/([^/]+))?)?", path):
            return self._api(match[1], match[2] or "info", match[3] or "main", body)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3])
        return self._json({"error": f"unknown {path}"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or self.hub.account['name']}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repos:
            return self._json({"error": "You already created this model repo", "url": url}, 409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[name] = Repo(private)
        return self._json({"url": url, "name": name})

    def _api(self, name: str, what: str, revision: str, body: bytes) -> None:
        repo = self.hub.repos.get(name)
        if repo is None:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        branch = next((one for one in repo.branches if revision in {one, repo.sha(one)}), None)
        if what == "branch":
            if branch:
                return self._json({"error": "exists"}, 409)
            repo.branches[revision] = dict(repo.branches["main"])
            return self._json({})
        if branch is None:
            return self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = repo.branches[branch]
        if what in {"info", "revision"}:
            siblings = [{"rfilename": path} for path in files]
            info = {"_id": "1", "id": name, "modelId": name, "sha": repo.sha(branch), "private": repo.private}
            return self._json({**info, "siblings": siblings, "tags": [], "downloads": 0, "likes": 0})
        if what == "tree":
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": blob_sha1(content)}
                for path, content in files.items()
            ]
            return self._json(entries)
        if what == "preupload":
            return self._json({"files": [self._mode(files, asked) for asked in json.loads(body)["files"]]})
        assert what == "commit", what
        return self._commit(repo, branch, body)

    def _mode(self, files: dict[str, bytes], asked: dict[str, Any]) -> dict[str, Any]:
        large = asked["size"] >= LARGE or asked["path"].endswith(".safetensors")
        there = files.get(asked["path"])
        found = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if there is not None:
            found["oid"] = hashlib.sha256(there).hexdigest() if large else blob_sha1(there)
        return found

    def _commit(self, repo: Repo, branch: str, body: bytes) -> None:
        files, touched = repo.branches[branch], []
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                continue
            touched.append(value["path"])
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    return self._json({"error": "lfs object missing"}, 400)
                files[value["path"]] = self.hub.large[value["oid"]]
            else:
                del files[value["path"]]
        repo.commits.append((branch, tuple(touched)))
        sha = repo.sha(branch)
        return self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/c/{sha}", "hookOutput": ""})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for item in asked["objects"]:
            entry: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            href = f"{self.hub.url}/storage/{item['oid']}"
            header: dict[str, str] = {}
            if self.hub.part_size:
                count = -(-item["size"] // self.hub.part_size)
                header = {f"{n:05d}": f"{href}/{n}" for n in range(1, count + 1)}
                header["chunk_size"] = str(self.hub.part_size)
            if item["oid"] not in self.hub.large:
                entry["actions"] = {
                    "upload": {"href": href, "header": header},
                    "verify": {"href": f"{self.hub.url}/storage/verify", "header": {}},
                }
            objects.append(entry)
        return self._json({"transfer": "multipart" if self.hub.part_size else "basic", "objects": objects})

    def _storage(self, path: str, body: bytes) -> None:
        oid, _, part = path.removeprefix("/storage/").partition("/")
        if oid == "verify":
            found = self.hub.large.get(json.loads(body)["oid"])
            return self._json({}, 200 if found is not None else 404)
        if part:
            self.hub.parts.setdefault(oid, {})[int(part)] = body
            return self._json({}, headers={"ETag": f'"{part}"'})
        if self.command == "POST":  # all parts are there
            body = b"".join(content for _, content in sorted(self.hub.parts[oid].items()))
        assert hashlib.sha256(body).hexdigest() == oid
        self.hub.large[oid] = body
        return self._json({})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.headers.get("authorization") != f"Bearer {TOKEN}"):
            return self._json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        branch = next((one for one in repo.branches if revision in {one, repo.sha(one)}), "")
        content = repo.branches.get(branch, {}).get(path)
        if content is None:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": repo.sha(branch), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        return self._answer(content, 200, headers)

    def _json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def blob_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def serving() -> Iterator[LoopbackHub]:
    hub = LoopbackHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


def environment(hub: LoopbackHub, home: Path) -> dict[str, str]:
    """Return the variables that make a process use this server as the Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }
