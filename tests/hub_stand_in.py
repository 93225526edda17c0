"""A stand-in for the Hugging Face hub: the requests of its client that mpt makes, on models in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MODEL = r"/api/models/(?P<model>[^/]+/[^/]+)"
DATE = "2026-01-02T03:04:05.000Z"


class Hub(ThreadingHTTPServer):
    """The server. ``models`` holds the files of each model, by their paths."""

    def __init__(self) -> None:
        self.models: dict[str, dict[str, bytes]] = {}
        self.commits = 0
        super().__init__(("localhost", 0), _Requests)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_port}"


@contextmanager
def hub() -> Iterator[Hub]:
    """A context with a running stand-in."""
    with Hub() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Requests(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if found := re.fullmatch("/(?P<model>[^/]+/[^/]+)/resolve/[^/]+/(?P<file>.+)", path):
            content = (self._files(found) or {}).get(found["file"])
            return self._missing("EntryNotFound") if content is None else self._send(content)
        found = re.fullmatch(f"{MODEL}(?P<rest>/.*)?", path)
        if found is None or (files := self._files(found)) is None:
            return self._missing("RepoNotFound")
        if tree := re.fullmatch("/tree/[^/]+/?(?P<under>.*)", found["rest"] or ""):
            deep = parse_qs(url.query).get("recursive", [""])[0].lower() == "true"
            entries = _below(files, tree["under"], deep)
            return self._answer(entries) if entries or not tree["under"] else self._missing("EntryNotFound")
        siblings = [{"rfilename": name} for name in files]
        return self._answer({"id": found["model"], "sha": self._commit, "siblings": siblings})

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = re.fullmatch(f"{MODEL}/(?P<what>paths-info|preupload|commit)/[^/]+", unquote(self.path))
        if found is None or self._files(found) is None:
            return self._missing("RepoNotFound")
        if found["what"] == "paths-info":
            asked = self._form(body)
            return self._answer([_entry(n, c) for n, c in self._files(found).items() if n in asked])
        if found["what"] == "preupload":
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            return self._answer({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self._files(found)[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        self.server.commits += 1
        address = f"{self.server.url}/{found['model']}/commit/{self._commit}"
        return self._answer({"commitUrl": address, "commitOid": self._commit})

    @property
    def _commit(self) -> str:
        return f"{self.server.commits:040x}"

    def _files(self, found: re.Match[str]) -> Any:
        return self.server.models.get(found["model"])

    def _form(self, body: bytes) -> list[str]:
        if "json" in self.headers.get("Content-Type", ""):
            return json.loads(body)["paths"]
        return parse_qs(body.decode())["paths"]

    def _answer(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), "application/json")

    def _missing(self, code: str) -> None:
        self._send(b"{}", "application/json", 404, {"X-Error-Code": code, "X-Error-Message": "not found"})

    def _send(
        self, content: bytes, kind: str = "application/octet-stream", status: int = 200, more: Any = None
    ) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and status == 200:
            start, end = int(asked[1]), int(asked[2] or len(content) - 1) + 1
            more = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}
            status, content = 206, content[start:end]
        self.send_response(status)
        etag = hashlib.sha1(content).hexdigest()
        told = {"Content-Type": kind, "Content-Length": str(len(content)), "ETag": f'"{etag}"'}
        for name, value in (told | {"X-Repo-Commit": self._commit} | (more or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def _entry(name: str, content: bytes) -> dict[str, Any]:
    commit = {"id": "0" * 40, "title": "added", "date": DATE}
    oid = hashlib.sha1(content).hexdigest()
    return {"type": "file", "path": name, "size": len(content), "oid": oid, "lastCommit": commit}


def _below(files: dict[str, bytes], under: str, deep: bool) -> list[dict[str, Any]]:
    """The files of a folder, and its folders; with ``deep``, also what is in them."""
    prefix = f"{under.rstrip('/')}/" if under else ""
    inside = {name: content for name, content in files.items() if name.startswith(prefix)}
    entries = [
        _entry(name, content)
        for name, content in inside.items()
        if deep or "/" not in name.removeprefix(prefix)
    ]
    folders = {
        prefix + "/".join(parts[:depth])
        for parts in (name.removeprefix(prefix).split("/") for name in inside)
        for depth in range(1, len(parts))
        if deep or depth == 1
    }
    return [*entries, *({"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders))]
