"""A Hub of our own, in memory: what the client of huggingface_hub asks for, and failures on demand.

    with LocalHub() as hub:
        hub.accounts["token"] = Account("someone", {"someone", "an-organization"})
        ...  # a process with HF_ENDPOINT=hub.url

Its answers are those of the real one as the client's own code reads them: error codes in headers,
weights by LFS, the rest within the commit. The client must have HF_HUB_DISABLE_XET=1.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

LOOPBACK = socket.inet_ntoa(socket.INADDR_LOOPBACK.to_bytes(4, "big"))
KINDS = {"models": "model", "spaces": "space"}
API = r"/api/(?P<kinds>models|spaces)/(?P<name>[^/]+/[^/]+)"
PAGE = r"/(?:(?P<kinds>spaces)/)?(?P<name>[^/]+/[^/]+)"
LFS_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Account:
    """Who has a token.

    Args:
        name: Of the user.
        owners: Users and organizations whose private repositories the token may read.
        can_write: Whether it may write to them, too.
    """

    name: str
    owners: frozenset[str] | set[str]
    can_write: bool = True


@dataclass
class Repository:
    """Files by commit.

    Args:
        private: Whether only its owner may read it.
        commits: Content of each file, by commit; the last commit is that of the branch `main`.
        messages: Of the commits.
        tags: Commits by tag.
    """

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        """The newest commit."""
        return list(self.commits)[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """Content of each file in the newest commit."""
        return self.commits[self.head]

    def commit(self, files: dict[str, bytes], message: str) -> str:
        """Add a commit with all files as they are in it; return it."""
        entries = sorted((name, _git_oid(content)) for name, content in files.items())
        text = f"{len(self.commits)} {message} {entries}"
        name = hashlib.sha1(text.encode()).hexdigest()
        self.commits[name] = files
        self.messages.append(message)
        return name

    def find(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or the commit's own name stands for."""
        found = {"main": self.head, **self.tags}.get(revision, revision)
        return found if found in self.commits else None


class _Refused(Exception):  # an answer
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class _Request:
    account: Account | None
    body: bytes
    revision: str = "main"
    path: str = ""

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass(frozen=True)
class _Answer:
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class LocalHub:
    """The server. What it holds may be read and changed between requests.

    `faults` says what goes wrong, by a part of the request such as
    "POST /api/models/owner/name/commit": a status; "cut", which ends the connection in the middle
    of the request and does nothing; "lost", which does what is asked and ends it then; or a
    function, which is called before the request is answered.
    """

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: dict[str, int | str | Callable[[], object]] = {}
        self._server = _Server(self)
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> LocalHub:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *reason: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(
        self, name: str, files: dict[str, bytes], kind: str = "model", private: bool = False
    ) -> Repository:
        """Put a repository there, with one commit."""
        repository = self.repositories[kind, name] = Repository(private)
        repository.commit({".gitattributes": b"", **files}, "initial commit")
        return repository

    def fault(self, request: str) -> int | str | Callable[[], object] | None:
        """Return what goes wrong with a request; None if nothing does."""
        return next((how for part, how in self.faults.items() if part in request), None)

    def answer(self, method: str, url: str, token: str | None, body: bytes) -> _Answer:
        """Do what a request asks for.

        Raises:
            _Refused: If it may not, or cannot be done.
        """
        if token is not None and token not in self.accounts:
            raise _Refused(401, "Invalid credentials in Authorization header")
        account = self.accounts.get(token or "")
        path = unquote(urlsplit(url).path)
        for methods, pattern, action in self._routes():
            found = re.fullmatch(pattern, path)
            if found and method in methods.split():
                parts = found.groupdict()
                kind = KINDS[parts.pop("kinds", None) or "models"]
                name = parts.pop("name", None)
                request = _Request(account, body, **{k: v for k, v in parts.items() if v})
                return action(request) if name is None else action(request, kind, name)
        raise _Refused(404, f"no such route: {method} {path}")

    def _routes(self) -> Iterator[tuple[str, str, Callable[..., _Answer]]]:
        yield "GET", "/api/whoami-v2", self._whoami
        yield "POST", "/api/repos/create", self._create
        yield "POST", "/api/validate-yaml", lambda request: _json({"errors": [], "warnings": []})
        yield "GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?", self._information
        yield "GET", rf"{API}/refs", self._references
        yield "GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", self._tree
        yield "POST", rf"{API}/preupload/(?P<revision>[^/]+)", self._preupload
        yield "POST", rf"{API}/commit/(?P<revision>[^/]+)", self._commit
        yield "POST", rf"{API}/tag/(?P<revision>[^/]+)", self._tag
        yield "POST", rf"{PAGE}\.git/info/lfs/objects/batch", self._lfs_batch
        yield "PUT", r"/lfs/(?P<path>[0-9a-f]{64})", self._lfs_object
        yield "GET HEAD", rf"{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", self._file

    def _whoami(self, request: _Request) -> _Answer:
        if request.account is None:
            raise _Refused(401, "Invalid username or password.")
        return _json({"name": request.account.name, "type": "user", "orgs": []})

    def _create(self, request: _Request) -> _Answer:
        wish, account = request.json, request.account
        owner = wish.get("organization") or getattr(account, "name", "")
        kind, name = wish.get("type", "model"), f"{owner}/{wish['name']}"
        if account is None:
            raise _Refused(401, "Invalid username or password.")
        if not account.can_write or owner not in account.owners:
            raise _Refused(403, f'You don\'t have the rights to create a {kind} under "{owner}"')
        if (kind, name) in self.repositories:
            raise _Refused(409, f"You already created this {kind} repo")
        self.add(name, {}, kind, private=wish.get("visibility") == "private")
        return _json({"url": f"{self.url}/{'spaces/' * (kind == 'space')}{name}"})

    def _information(self, request: _Request, kind: str, name: str) -> _Answer:
        repository, commit = self._find(request, kind, name)
        siblings = [{"rfilename": file} for file in repository.commits[commit]]
        facts = {"sha": commit, "private": repository.private, "siblings": siblings}
        return _json({"id": name, "tags": [], "downloads": 0, "likes": 0, **facts})

    def _references(self, request: _Request, kind: str, name: str) -> _Answer:
        repository, _ = self._find(request, kind, name)
        tags = [_reference("tags", *tag) for tag in repository.tags.items()]
        branches = [_reference("heads", "main", repository.head)]
        return _json({"branches": branches, "tags": tags, "converts": []})

    def _tree(self, request: _Request, kind: str, name: str) -> _Answer:
        repository, commit = self._find(request, kind, name)
        files = repository.commits[commit]
        below = {file for file in files if file.startswith(f"{request.path}/" * bool(request.path))}
        if not below:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        facts = (
            {"type": "file", "path": file, "size": len(files[file]), "oid": _git_oid(files[file])}
            for file in sorted(below)
        )
        return _json(list(facts))

    def _preupload(self, request: _Request, kind: str, name: str) -> _Answer:
        repository = self._writable(request, kind, name)
        answers = []
        for file in request.json["files"]:
            is_large = file["path"].endswith(LFS_SUFFIX)
            content = repository.files.get(file["path"])
            oid = None if content is None else (_sha256 if is_large else _git_oid)(content)
            mode = "lfs" if is_large else "regular"
            facts = {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}
            answers.append(facts)
        return _json({"files": answers})

    def _lfs_batch(self, request: _Request, kind: str, name: str) -> _Answer:
        self._writable(request, kind, name)
        answers = []
        for wanted in request.json["objects"]:
            upload = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}}
            is_there = wanted["oid"] in self.objects
            answers.append(wanted if is_there else {**wanted, "actions": upload})
        return _json({"transfer": "basic", "objects": answers})

    def _lfs_object(self, request: _Request) -> _Answer:
        if _sha256(request.body) != request.path:
            raise _Refused(400, "The content does not have this digest")
        self.objects[request.path] = request.body
        return _Answer(b"")

    def _commit(self, request: _Request, kind: str, name: str) -> _Answer:
        repository = self._writable(request, kind, name)
        lines = [json.loads(line) for line in request.body.splitlines()]
        header, files = lines[0]["value"], dict(repository.files)
        if header.get("parentCommit", repository.head) != repository.head:
            raise _Refused(412, "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            change = line["value"]
            if line["key"] == "file":
                files[change["path"]] = base64.b64decode(change["content"])
            elif line["key"] == "lfsFile":
                if change["oid"] not in self.objects:
                    raise _Refused(400, f"There is no object {change['oid']}")
                files[change["path"]] = self.objects[change["oid"]]
            else:
                del files[change["path"]]
        commit = repository.commit(files, header["summary"])
        return _json({"commitOid": commit, "commitUrl": f"{self.url}/{name}/commit/{commit}"})

    def _tag(self, request: _Request, kind: str, name: str) -> _Answer:
        repository = self._writable(request, kind, name)
        tag, commit = request.json["tag"], repository.find(request.revision)
        if commit is None:
            raise _Refused(404, "Revision not found", "RevisionNotFound")
        if tag in repository.tags:
            raise _Refused(409, f"Tag {tag} already exists")
        repository.tags[tag] = commit
        return _json({})

    def _file(self, request: _Request, kind: str, name: str) -> _Answer:
        repository, commit = self._find(request, kind, name)
        content = repository.commits[commit].get(request.path)
        if content is None:
            raise _Refused(404, "Entry not found", "EntryNotFound")
        is_large = request.path.endswith(LFS_SUFFIX)
        oid = (_sha256 if is_large else _git_oid)(content)
        kind_of_content = {"Content-Type": "application/octet-stream"}
        return _Answer(content, {"ETag": f'"{oid}"', "X-Repo-Commit": commit, **kind_of_content})

    def _find(self, request: _Request, kind: str, name: str) -> tuple[Repository, str]:
        """Return a repository that the request may read, and the commit that it means."""
        repository, account = self.repositories.get((kind, name)), request.account
        is_own = account is not None and name.partition("/")[0] in account.owners
        if repository is None or (repository.private and not is_own):
            raise _Refused(401 if account is None else 404, "Repository not found", "RepoNotFound")
        commit = repository.find(request.revision)
        if commit is None:
            raise _Refused(404, f"Invalid rev id: {request.revision}", "RevisionNotFound")
        return repository, commit

    def _writable(self, request: _Request, kind: str, name: str) -> Repository:
        repository, _ = self._find(request, kind, name)
        account, owner = request.account, name.partition("/")[0]
        if account is None or not account.can_write or owner not in account.owners:
            raise _Refused(403, "You need write access to this repository")
        return repository


class _Server(ThreadingHTTPServer):
    """Answers each connection in a thread of its own."""

    daemon_threads = True

    def __init__(self, hub: LocalHub) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes answers."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def serve(self) -> None:
        hub = self.server.hub
        length = int(self.headers.get("Content-Length") or 0)
        request = f"{self.command} {self.path}"
        hub.requests.append(request)
        fault = hub.fault(request)
        body = self.rfile.read(length // 2 if fault == "cut" else length)
        if fault == "cut":
            self.hang_up()
            return
        if callable(fault):
            fault()
        try:
            if isinstance(fault, int):
                raise _Refused(fault, "told to fail")
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            answer = hub.answer(self.command, self.path, token, body)
        except _Refused as refusal:
            self.refuse(refusal)
            return
        if fault == "lost":
            self.hang_up()
        else:
            self.reply(200, answer.body, answer.headers)

    def refuse(self, refusal: _Refused) -> None:
        headers = {"X-Error-Message": refusal.message}
        if refusal.code:
            headers["X-Error-Code"] = refusal.code
        self.reply(refusal.status, json.dumps({"error": refusal.message}).encode(), headers)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        json_type = {"Content-Type": "application/json"}
        for name, value in {**json_type, **headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_PUT = serve  # the library's names


def _json(value: object) -> _Answer:
    return _Answer(json.dumps(value).encode())


def _reference(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
