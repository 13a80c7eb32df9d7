"""The files of a repository: list, download and compare them."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..utils.files import sha256_of
from .api import KINDS, ask


__all__ = [
    "Content",
    "Kind",
    "download",
    "find",
    "is_same",
    "listing",
    "openable",
    "read_text",
    "size_of",
]

Content = Path | bytes
"""A file on this machine, or a small one in memory."""

Kind = Literal["dataset", "model"]


def find(api: HfApi, repo_id: str, kind: Kind, revision: str | None = None) -> Any | None:
    """The Hub's information on a repository, such as its commit (`sha`); `None` if it does not exist."""
    return ask(f"look at the {KINDS[kind]} {repo_id}", _info, api, repo_id, kind, revision)


def listing(api: HfApi, repo_id: str, kind: Kind, revision: str) -> dict[str, RepoFile]:
    """The files of a revision by path."""
    return ask(f"list the {KINDS[kind]} {repo_id}", _entries, api, repo_id, kind, revision)


def download(api: HfApi, repo_id: str, kind: Kind, revision: str, path: str) -> Path | None:
    """Download a file of a revision into the cache; `None` if it does not exist."""
    file = ask(f"read {path} of the {KINDS[kind]} {repo_id}", _download, api, repo_id, path, kind, revision)
    return None if file is None else Path(file)


def read_text(api: HfApi, repo_id: str, kind: Kind, revision: str, path: str) -> str | None:
    """A small text file of a revision; `None` if it does not exist."""
    file = download(api, repo_id, kind, revision, path)
    return None if file is None else file.read_bytes().decode("utf-8", "replace")


def is_same(entry: RepoFile, content: Content) -> bool:
    """Whether a file of the repository has this content, by the Hub's hashes."""
    if entry.size != size_of(content):
        return False
    if entry.lfs is not None:
        return entry.lfs.sha256 == sha256_of(content)
    data = content if isinstance(content, bytes) else content.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def openable(content: Content) -> bytes | str:
    """The content in a form that the Hub's client accepts."""
    return content if isinstance(content, bytes) else str(content)


def size_of(content: Content) -> int:
    """Bytes of the content."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _info(api: HfApi, repo_id: str, kind: Kind, revision: str | None) -> Any | None:
    try:
        return api.repo_info(repo_id, repo_type=kind, revision=revision)
    except RepositoryNotFoundError:
        return None


def _entries(api: HfApi, repo_id: str, kind: Kind, revision: str) -> dict[str, RepoFile]:
    entries = api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=kind)
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def _download(api: HfApi, repo_id: str, path: str, kind: Kind, revision: str) -> str | None:
    try:
        return api.hf_hub_download(repo_id, path, repo_type=kind, revision=revision)
    except EntryNotFoundError:
        return None
