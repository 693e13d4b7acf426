"""A model hub on this machine: as much of the Hugging Face hub's HTTP interface as its own client needs.

It serves folders as repositories over real HTTP, with the status codes and headers of the hub
(https://huggingface.co/docs/hub/api), and keeps a log of what it was asked for.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

LARGE_FILES = (".safetensors", ".bin", ".pt", ".pth")
"""Kept in large file storage, which shows in the listing and in the headers."""

CHUNK_BYTES = 1 << 14


@dataclass(frozen=True)
class Repository:
    """One model.

    Attributes:
        revisions: a folder for each branch and tag.
        token: who does not show it is not let in; the listing is public all the same.
        declared_bytes: the size that the listing claims for a file, instead of its own.
        withheld: files that are listed and that nobody gets.
    """

    revisions: Mapping[str, Path]
    token: str | None = None
    declared_bytes: Mapping[str, int] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()

    def folder(self, revision: str) -> Path | None:
        """Return the content of a branch, tag or commit."""
        by_commit = {commit(folder): folder for folder in self.revisions.values()}
        return self.revisions.get(revision) or by_commit.get(revision)


def commit(folder: Path) -> str:
    """Return the 40 hex digits that stand for a folder's content."""
    digest = sha1()
    for path in files(folder):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def files(folder: Path) -> Iterator[Path]:
    """Yield all files of a repository."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


class Asked(NamedTuple):
    """One line of the server's log."""

    at: datetime
    method: str
    path: str
    token: str | None


class Hub:
    """The running server; use it as a context manager.

    Attributes:
        repositories: by `owner/name`; may be changed while it runs.
        asked: every request so far.
        broken: answer everything with 500.
        slow: send weights drop by drop, until it is set to False.
    """

    def __init__(self, repositories: Mapping[str, Repository]) -> None:
        self.repositories = dict(repositories)
        self.asked: list[Asked] = []
        self.broken = False
        self.slow = False
        self._server = _Server(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """What `HF_ENDPOINT` is to be."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def fetched(self) -> list[str]:
        """Return the names of the files whose content was asked for, in that order."""
        return [a.path.partition("/resolve/")[2].partition("/")[2] for a in self.downloads()]

    def downloads(self) -> list[Asked]:
        """Return the requests for the content of files."""
        return [asked for asked in self.asked if asked.method == "GET" and "/resolve/" in asked.path]

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.slow = False
        self.stop()


class _Server(ThreadingHTTPServer):
    """One thread a connection; a client that is killed is no error."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Show what is wrong with this server alone."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _handler_of(hub: Hub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Keep the terminal free: `Hub.asked` is the log."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ") or None
        self.hub.asked.append(Asked(datetime.now(UTC), self.command, path, token))
        api = re.fullmatch(
            r"/api/(?:models|datasets)/([^/]+/[^/]+?)(?:/(revision|tree|paths-info)/([^/]+))?", path
        )
        file = re.fullmatch(r"/(?:datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        if self.hub.broken:
            self._refuse(500, "Internal", "something went wrong on our side")
        elif api:
            self._describe(api[1], api[2], api[3] or "main")
        elif file:
            self._give(file[1], file[2], file[3], token)
        else:
            self._refuse(404, "NotFound", "no such page")

    def _folder(self, name: str, revision: str) -> Path | None:
        """Return the content of a repository, or say why there is none."""
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        folder = repository.folder(revision)
        if folder is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return folder

    def _describe(self, name: str, part: str | None, revision: str) -> None:
        folder = self._folder(name, revision)
        if folder is None:
            return
        repository = self.hub.repositories[name]
        entries = [_entry(path, folder, repository) for path in files(folder)]
        if part == "tree":
            self._send_json([{"type": "file", **entry} for entry in entries])
            return
        siblings = [
            {"rfilename": e["path"], "size": e["size"], "blobId": e["oid"], "lfs": _listed(e["lfs"])}
            for e in entries
        ]
        self._send_json(
            {"id": name, "modelId": name, "sha": commit(folder), "tags": [], "siblings": siblings}
        )

    def _give(self, name: str, revision: str, file: str, token: str | None) -> None:
        folder = self._folder(name, revision)
        if folder is None:
            return
        repository = self.hub.repositories[name]
        path = folder / file
        if file in repository.withheld:
            self._refuse(403, "Forbidden", "not this one")
        elif repository.token is not None and token != repository.token:
            self._refuse(403 if token else 401, "GatedRepo", f"Access to model {name} is restricted")
        elif not path.is_file():
            self._refuse(404, "EntryNotFound", "Entry not found")
        else:
            self._send_file(path, commit(folder))

    def _send_file(self, path: Path, revision: str) -> None:
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", revision)
        self.send_header("ETag", f'"{_etag(path)}"')
        self.send_header("X-Linked-ETag", f'"{_etag(path)}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Accept-Ranges", "none")
        self._send_body(content, drop_by_drop=path.suffix in LARGE_FILES)

    def _send_json(self, value: object) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._send_body(json.dumps(value).encode())

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self._send_body(json.dumps({"error": message}).encode())

    def _send_body(self, body: bytes, *, drop_by_drop: bool = False) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            for begin in range(0, len(body), CHUNK_BYTES):
                while drop_by_drop and self.hub.slow and begin > 0:
                    time.sleep(0.02)
                self.wfile.write(body[begin : begin + CHUNK_BYTES])
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # who asked is gone


def _etag(path: Path) -> str:
    """Return the checksum that the client holds a file's content against."""
    content = path.read_bytes()
    if path.suffix in LARGE_FILES:
        return sha256(content).hexdigest()
    return sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: Path, folder: Path, repository: Repository) -> dict[str, object]:
    name = path.relative_to(folder).as_posix()
    size = repository.declared_bytes.get(name, path.stat().st_size)
    lfs = {"oid": _etag(path), "size": size, "pointerSize": 134} if path.suffix in LARGE_FILES else None
    return {"path": name, "size": size, "oid": _etag(path)[:40], "lfs": lfs}


def _listed(lfs: object) -> object:
    return {"sha256": lfs["oid"], **lfs} if isinstance(lfs, dict) else None
