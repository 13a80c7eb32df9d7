"""A Hugging Face Hub in memory, over HTTP on loopback, for the real clients: repositories, LFS, cards, collections.

It speaks what `huggingface_hub`, `datasets`, `transformers` and `trl` send with `HF_HUB_DISABLE_XET=1`, knows tokens
that may write or only read, private and gated repositories, and fails on demand. Its shapes were taken from what those
clients read: a test that passes here shows that they are used rightly, not that the real Hub answers byte for byte so.
"""

import base64
import hashlib
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


__all__ = ["Hub", "Problem", "Repo", "READER", "STRANGER", "USER", "WRITER"]

USER = "tester"
WRITER, READER, STRANGER = "hf_writes", "hf_reads", "hf_of_somebody_else"
"""Tokens: of `tester` with and without write access, and of another user."""

LFS_SUFFIXES = (".arrow", ".bin", ".gz", ".parquet", ".png", ".pt", ".safetensors")
PREFIXES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
DATE = "2026-01-01T00:00:00.000Z"

COUNT = itertools.count()
"""Makes each commit unique: the clients cache by commit."""

Files = dict[str, bytes]


class Problem(Exception):
    """An answer that is an error, with the headers that the clients tell errors by."""

    def __init__(self, status: int, message: str, code: str | None = None, body: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.status, self.code = status, code
        self.body = {"error": message, **(body or {})}
        self.headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}


@dataclass
class Reply:
    """An answer that is not JSON: bytes with headers."""

    data: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What came in."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    token: str | None
    range: str

    @property
    def json(self) -> Any:
        return json.loads(self.body or b"{}")


@dataclass
class Fault:
    """Answer the next `times` requests of this method whose path holds the pattern with this status instead."""

    status: int
    method: str
    pattern: str
    times: int
    headers: dict[str, str]

    def takes(self, request: Request) -> bool:
        if self.times and self.method in ("*", request.method) and re.search(self.pattern, request.path):
            self.times -= 1
            return True
        return False


@dataclass
class Repo:
    """A repository: commits (files and title by SHA), and branches and tags that point to them."""

    private: bool = False
    gated: str | bool = False
    commits: dict[str, tuple[Files, str]] = field(default_factory=dict)
    branches: dict[str, list[str]] = field(default_factory=lambda: {"main": []})
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit({}, "initial commit")

    def commit(self, files: Files, title: str, branch: str = "main") -> str:
        """Put a commit on a branch; returns its SHA."""
        sha = hashlib.sha1(f"{next(COUNT)} {title}".encode()).hexdigest()
        self.commits[sha] = (files, title)
        self.branches[branch].append(sha)
        return sha

    def sha(self, revision: str = "main") -> str:
        if revision in self.branches:
            return self.branches[revision][-1]
        sha = self.tags.get(revision, revision)
        if sha not in self.commits:
            raise Problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    def files(self, revision: str = "main") -> Files:
        """Contents by path."""
        return self.commits[self.sha(revision)][0]

    def edit(self, path: str, content: bytes) -> str:
        """What somebody does on the website: change one file of `main`."""
        return self.commit({**self.files(), path: content}, f"Update {path}")

    @property
    def card(self) -> dict[str, Any]:
        """Metadata of the card as it stands."""
        found = re.match(r"\s*---\n(.*?)\n---", self.files().get("README.md", b"").decode(), re.S)
        try:
            return (yaml.safe_load(found[1]) if found else None) or {}
        except yaml.YAMLError:
            return {}


class Hub:
    """`hub = Hub()`, set `HF_ENDPOINT=hub.url` before any Hugging Face import, and `hub.clear()` between tests.

    Attributes:
        repos (`dict[tuple[str, str], Repo]`): By kind (`"models"`, `"datasets"`) and id.
        collections (`dict[str, dict]`): By slug.
        requests (`Counter[tuple[str, str]]`): How often each method and path was asked.
        agents (`set[str]`): User agents that were seen.
    """

    def __init__(self) -> None:
        self.clear()
        handler = type("Bound", (_Handler,), {"hub": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def clear(self) -> None:
        """Forget everything."""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.collections: dict[str, dict[str, Any]] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: Counter[tuple[str, str]] = Counter()
        self.agents: set[str] = set()
        self.users = {WRITER: USER, READER: USER, STRANGER: "stranger"}

    def fail(self, status: int, pattern: str = "", *, method: str = "*", times: int = 1, **headers: str) -> None:
        """Answer so many of the next requests like this with an error; `Retry_After="0"` becomes a header."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.faults.append(Fault(status, method, pattern, times, named))

    def repo(self, kind: str, name: str) -> Repo:
        """A repository that is there."""
        return self.repos[kind, name]

    def sent(self, method: str, pattern: str) -> int:
        """How many such requests came."""
        return sum(
            count for (verb, path), count in self.requests.items() if verb == method and re.search(pattern, path)
        )

    # What each route answers.

    def answer(self, request: Request) -> Any:
        """JSON or a `Reply`; raises `Problem`."""
        for fault in self.faults:
            if fault.takes(request):
                raise _failure(fault)
        if request.token is not None and request.token not in self.users:
            raise Problem(401, "Invalid credentials in Authorization header")
        for method, pattern, route in ROUTES:
            if method == request.method and (found := re.fullmatch(pattern, request.path)):
                return route(self, request, **{name: unquote(part or "") for name, part in found.groupdict().items()})
        raise Problem(404, f"No route {request.method} {request.path}")

    def whoami(self, request: Request) -> Any:
        self._needs_token(request)
        role = "read" if request.token == READER else "write"
        return {
            "type": "user",
            "name": self.users[request.token],
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": {"role": role, "displayName": "a test's"}},
        }

    def validate(self, request: Request) -> Any:
        found = re.match(r"\s*---\n(.*?)\n---", request.json["content"], re.S)
        data = (yaml.safe_load(found[1]) or {}) if found else {}
        forms = {"license": r"[a-z0-9.+-]+", "license_link": r"LICENSE(\.md)?|https?://\S+"}
        wrong = [name for name, form in forms.items() if name in data and not re.fullmatch(form, str(data[name]))]
        return {"errors": [{"message": f'"{name}" {data[name]!r} is not valid'} for name in wrong], "warnings": []}

    def create(self, request: Request) -> Any:
        kind, name = self._named(request)
        self._may_write(request, name)
        place = {"url": f"{self.url}/{PREFIXES[kind]}{name}", "name": name, "id": name}
        if (kind, name) in self.repos:
            raise Problem(409, "You already created this repo", body=place)
        self.repos[kind, name] = Repo(private=request.json.get("visibility") == "private")
        return place

    def delete(self, request: Request) -> Any:
        kind, name = self._named(request)
        self._may_write(request, name)
        del self.repos[kind, name]
        return {}

    def settings(self, request: Request, kind: str, name: str) -> Any:
        self._may_write(request, name)
        repo, changes = self._found(request, kind, name), request.json
        repo.gated = changes.get("gated", repo.gated)
        repo.private = changes.get("visibility", "private" if repo.private else "public") == "private"
        return {}

    def listing(self, request: Request, kind: str) -> Any:
        return [self.info(request, kind, name) for where, name in self.repos if where == kind]

    def info(self, request: Request, kind: str, name: str, revision: str = "") -> Any:
        repo = self._found(request, kind, name)
        sha = repo.sha(revision or "main")
        files, card = repo.files(sha), repo.card
        results = [
            {"filename": path, "data": entry}
            for path, data in files.items()
            if re.fullmatch(r"\.eval_results/[^/]+\.yaml", path)
            for entry in yaml.safe_load(data)
        ]
        license_tag = [f"license:{card['license']}"] if isinstance(card.get("license"), str) else []
        return {
            **{"_id": sha[:24], "id": name, "modelId": name, "author": name.split("/")[0], "sha": sha},
            **{"private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 0, "likes": 0},
            **{"lastModified": DATE, "createdAt": DATE, "tags": [*(card.get("tags") or []), *license_tag]},
            **{"cardData": card, "library_name": card.get("library_name"), "evalResults": results},
            "siblings": [{"rfilename": path} for path in sorted(files)],
        }

    def tree(self, request: Request, kind: str, name: str, revision: str, path: str) -> Any:
        files = self._found(request, kind, name).files(revision)
        entries = list(_tree(files, path, request.query.get("recursive", [""])[0].lower() in ("true", "1")))
        if path and not entries:
            raise Problem(404, f"{path} does not exist", "EntryNotFound")
        return entries

    def paths_info(self, request: Request, kind: str, name: str, revision: str) -> Any:
        files = self._found(request, kind, name).files(revision)
        form = request.json if request.body.startswith(b"{") else parse_qs(request.body.decode())
        folders = [path for path in form["paths"] if any(file.startswith(f"{path}/") for file in files)]
        return [_entry(path, files[path]) for path in form["paths"] if path in files] + [_folder(p) for p in folders]

    def refs(self, request: Request, kind: str, name: str) -> Any:
        repo = self._found(request, kind, name)
        return {
            "branches": [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": shas[-1]}
                for branch, shas in repo.branches.items()
            ],
            "tags": [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha} for tag, sha in repo.tags.items()],
            "converts": [],
            "pullRequests": [],
        }

    def history(self, request: Request, kind: str, name: str, revision: str) -> Any:
        repo = self._found(request, kind, name)
        shas = repo.branches.get(revision, [repo.sha(revision)])
        author = [{"user": USER}]
        return [
            {"id": sha, "title": repo.commits[sha][1], "message": "", "date": DATE, "authors": author}
            for sha in reversed(shas)
        ]

    def branch(self, request: Request, kind: str, name: str, branch: str) -> Any:
        self._may_write(request, name)
        repo = self._found(request, kind, name)
        if branch in repo.branches:
            raise Problem(409, "Reference already exists")
        start = repo.sha(request.json.get("startingPoint") or "main")
        repo.branches[branch] = [start]
        return {}

    def tag(self, request: Request, kind: str, name: str, revision: str) -> Any:
        self._may_write(request, name)
        repo, tag = self._found(request, kind, name), request.json["tag"]
        if tag in repo.tags:
            raise Problem(409, "Tag reference exists already")
        repo.tags[tag] = repo.sha(revision)
        return {}

    def untag(self, request: Request, kind: str, name: str, tag: str) -> Any:
        self._may_write(request, name)
        repo = self._found(request, kind, name)
        if tag not in repo.tags:
            raise Problem(404, f"No tag {tag}", "RevisionNotFound")
        del repo.tags[tag]
        return {}

    def preupload(self, request: Request, kind: str, name: str, revision: str) -> Any:
        self._may_write(request, name)
        files = self._found(request, kind, name).files(revision)
        return {
            "files": [
                {
                    "path": path,
                    "uploadMode": "lfs" if path.endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                    "oid": _oid(path, files[path]) if path in files else None,
                }
                for path in (file["path"] for file in request.json["files"])
            ]
        }

    def commit(self, request: Request, kind: str, name: str, revision: str) -> Any:
        self._may_write(request, name)
        repo = self._found(request, kind, name)
        files, title = dict(repo.files(revision)), ""
        for line in request.body.splitlines():
            change = json.loads(line)
            value = change["value"]
            path = value.get("path", "").strip("/")
            match change["key"]:
                case "header":
                    title = value["summary"]
                    if value.get("parentCommit") not in (None, repo.sha(revision)):
                        raise Problem(412, "A commit has happened since. Please refresh and try again.")
                case "file":
                    files[path] = base64.b64decode(value["content"])
                case "lfsFile":
                    if value["oid"] not in self.lfs:
                        raise Problem(400, f"LFS pointer {value['oid']} was not uploaded")
                    files[path] = self.lfs[value["oid"]]
                case "deletedFile":
                    if path not in files:
                        raise Problem(404, "A file with this name doesn't exist", "EntryNotFound")
                    del files[path]
                case "deletedFolder":
                    files = {file: data for file, data in files.items() if not file.startswith(f"{path}/")}
        sha = repo.commit(files, title, revision)
        url = f"{self.url}/{PREFIXES[kind]}{name}/commit/{sha}"
        return {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": "", "pullRequestUrl": None}

    def lfs_batch(self, request: Request, prefix: str, name: str) -> Any:
        self._may_write(request, name)
        objects = []
        for wanted in request.json["objects"]:
            upload = {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}", "header": {}}}
            actions = {} if wanted["oid"] in self.lfs else {"actions": upload}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
        return {"transfer": "basic", "objects": objects}

    def lfs_upload(self, request: Request, oid: str) -> Any:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Problem(400, "The content is not what its hash says")
        self.lfs[oid] = request.body
        return Reply()

    def resolve(self, request: Request, prefix: str, name: str, revision: str, path: str) -> Any:
        repo = self._found(request, prefix.strip("/") or "models", name)
        sha = repo.sha(revision)
        if repo.gated and self.users.get(request.token or "") != name.split("/")[0]:
            problem = Problem(403 if request.token else 401, f"Access to {name} is restricted", "GatedRepo")
            problem.headers["X-Repo-Commit"] = sha
            raise problem
        if path not in repo.files(sha):
            problem = Problem(404, "Entry not found", "EntryNotFound")
            problem.headers["X-Repo-Commit"] = sha
            raise problem
        return _content(path, repo.files(sha)[path], sha, request.range)

    def collect(self, request: Request) -> Any:
        wanted = request.json
        self._may_write(request, f"{wanted['namespace']}/")
        for slug, collection in self.collections.items():
            if collection["title"] == wanted["title"] and collection["owner"]["name"] == wanted["namespace"]:
                raise Problem(409, "exists", body={"slug": slug})
        words = re.sub("[^a-z0-9]+", "-", wanted["title"].lower())
        slug = f"{wanted['namespace']}/{words}-{len(self.collections):024x}"
        self.collections[slug] = {
            **{"slug": slug, "title": wanted["title"], "description": wanted.get("description"), "items": []},
            **{"owner": {"name": wanted["namespace"], "type": "user"}, "private": wanted["private"]},
            **{"lastUpdated": DATE, "position": 0, "theme": "blue", "upvotes": 0},
        }
        return self.collections[slug]

    def collection(self, request: Request, slug: str) -> Any:
        if slug not in self.collections:
            raise Problem(404, "Collection not found")
        return self.collections[slug]

    def collection_item(self, request: Request, slug: str) -> Any:
        self._may_write(request, slug)
        collection, wanted = self.collection(request, slug), request.json
        item = wanted["item"]
        if any(known["id"] == item["id"] and known["type"] == item["type"] for known in collection["items"]):
            raise Problem(409, "already in collection")
        position = len(collection["items"])
        note = {"text": wanted["note"]} if wanted.get("note") else None
        collection["items"].append({"_id": f"{position:024x}", **item, "position": position, "note": note})
        return collection

    # Who may do what.

    def _needs_token(self, request: Request) -> None:
        if request.token is None:
            raise Problem(401, "Invalid username or password.")

    def _may_write(self, request: Request, name: str) -> None:
        self._needs_token(request)
        if request.token == READER:
            raise Problem(403, "Forbidden: you must use a write token to upload to a repository.")
        if self.users[request.token] != name.split("/")[0]:
            raise Problem(403, f"You don't have the rights to write to the namespace of {name}")

    def _found(self, request: Request, kind: str, name: str) -> Repo:
        repo = self.repos.get((kind, name))
        if repo is None or (repo.private and self.users.get(request.token or "") != name.split("/")[0]):
            raise Problem(404 if request.token else 401, "Repository not found", "RepoNotFound")
        return repo

    def _named(self, request: Request) -> tuple[str, str]:
        wanted = request.json
        self._needs_token(request)
        owner = wanted.get("organization") or self.users[request.token]
        return (wanted.get("type") or "model") + "s", f"{owner}/{wanted['name']}"


_REPO = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
_REVISION = r"/(?P<revision>[^/]+)"
_SLUG = r"(?P<slug>[^/]+/[^/]+)"
ROUTES: list[tuple[str, str, Any]] = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/validate-yaml", Hub.validate),
    ("POST", "/api/repos/create", Hub.create),
    ("DELETE", "/api/repos/delete", Hub.delete),
    ("GET", "/api/(?P<kind>models|datasets|spaces)", Hub.listing),
    ("GET", _REPO, Hub.info),
    ("GET", f"{_REPO}/revision{_REVISION}", Hub.info),
    ("PUT", f"{_REPO}/settings", Hub.settings),
    ("GET", f"{_REPO}/tree{_REVISION}(?:/(?P<path>.*))?", Hub.tree),
    ("POST", f"{_REPO}/paths-info{_REVISION}", Hub.paths_info),
    ("GET", f"{_REPO}/refs", Hub.refs),
    ("GET", f"{_REPO}/commits{_REVISION}", Hub.history),
    ("POST", f"{_REPO}/branch/(?P<branch>[^/]+)", Hub.branch),
    ("POST", f"{_REPO}/tag{_REVISION}", Hub.tag),
    ("DELETE", f"{_REPO}/tag/(?P<tag>[^/]+)", Hub.untag),
    ("POST", f"{_REPO}/preupload{_REVISION}", Hub.preupload),
    ("POST", f"{_REPO}/commit{_REVISION}", Hub.commit),
    ("POST", "/(?P<prefix>datasets/|spaces/)?(?P<name>[^/]+/[^/]+).git/info/lfs/objects/batch", Hub.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", Hub.lfs_upload),
    (
        "GET",
        f"/(?P<prefix>datasets/|spaces/)?(?P<name>[^/]+/[^/]+)/(?:resolve|raw){_REVISION}/(?P<path>.+)",
        Hub.resolve,
    ),
    ("POST", "/api/collections", Hub.collect),
    ("GET", f"/api/collections/{_SLUG}", Hub.collection),
    ("POST", f"/api/collections/{_SLUG}/items?", Hub.collection_item),
]


def _failure(fault: Fault) -> Problem:
    messages = {401: "Invalid username or password.", 403: "Forbidden", 412: "A commit has happened since."}
    problem = Problem(fault.status, messages.get(fault.status, f"{fault.status}, as asked"))
    problem.headers |= fault.headers
    return problem


def _is_lfs(path: str) -> bool:
    return path.endswith(LFS_SUFFIXES)


def _oid(path: str, data: bytes) -> str:
    """What git calls the blob; for an LFS file the clients compare the SHA-256."""
    return (
        hashlib.sha256(data).hexdigest()
        if _is_lfs(path)
        else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    )


def _entry(path: str, data: bytes) -> dict[str, Any]:
    lfs = {"lfs": {"oid": _oid(path, data), "size": len(data), "pointerSize": 130}} if _is_lfs(path) else {}
    return {"type": "file", "path": path, "size": len(data), "oid": _oid(path, data)[:40], **lfs}


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


def _tree(files: Files, below: str, recursive: bool) -> Iterator[dict[str, Any]]:
    start = f"{below.strip('/')}/" if below.strip("/") else ""
    seen = set()
    for path in sorted(path for path in files if path.startswith(start)):
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
            folder = start + "/".join(parts[:depth])
            if folder not in seen:
                seen.add(folder)
                yield _folder(folder)
        if recursive or len(parts) == 1:
            yield _entry(path, files[path])


def _content(path: str, data: bytes, sha: str, wanted: str) -> Reply:
    """The file, or the part of it that a `Range` header asks for."""
    etag, total = _oid(path, data), len(data)
    headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    if _is_lfs(path):
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(total)}
    if not (found := re.match(r"bytes=(\d+)-(\d*)", wanted)):
        return Reply(data, 200, headers)
    first, last = int(found[1]), min(int(found[2] or total - 1), total - 1)
    if first >= total:
        return Reply(b"", 416, headers)
    return Reply(data[first : last + 1], 206, {**headers, "Content-Range": f"bytes {first}-{last}/{total}"})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        method = "GET" if self.command == "HEAD" else self.command
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ").strip() or None
        ranged = self.headers.get("Range") or ""
        request = Request(method, url.path, parse_qs(url.query), self._body(), token, ranged)
        self.hub.requests[self.command, url.path] += 1
        self.hub.agents.add(self.headers.get("User-Agent") or "")
        try:
            answer = self.hub.answer(request)
        except Problem as problem:
            answer = Reply(json.dumps(problem.body).encode(), problem.status, dict(problem.headers))
        if not isinstance(answer, Reply):
            answer = Reply(json.dumps(answer).encode(), 200, {"Content-Type": "application/json"})
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.data)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.data)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body
