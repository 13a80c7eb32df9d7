"""The files of a repository: list, download and compare them."""

import hashlib
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile

from ..utils.files import sha256_of
from .api import KINDS, ask


__all__ = ["Content", "Kind", "download", "find", "is_same", "listing", "read_text", "size_of"]

Content = Path | bytes
"""A file on this machine, or a small one in memory."""

Kind = Literal["dataset", "model"]


def find(api: HfApi, repo_id: str, kind: Kind, revision: str | None = None) -> Any | None:
    """The Hub's information on a repository, such as its commit (`sha`); `None` if it does not exist."""
    options = {"repo_type": kind, "revision": revision, "absent": RepositoryNotFoundError}
    return ask(f"look at the {KINDS[kind]} {repo_id}", api.repo_info, repo_id, **options)


def listing(api: HfApi, repo_id: str, kind: Kind, revision: str) -> dict[str, RepoFile]:
    """The files of a revision by path."""

    def entries() -> list[Any]:  # the client's own iterator would fail outside of `ask`
        return list(api.list_repo_tree(repo_id, recursive=True, revision=revision, repo_type=kind))

    found = ask(f"list the {KINDS[kind]} {repo_id}", entries)
    return {entry.path: entry for entry in found if isinstance(entry, RepoFile)}


def download(api: HfApi, repo_id: str, kind: Kind, revision: str, path: str) -> Path | None:
    """Download a file of a revision into the cache; `None` if it does not exist."""
    options = {"repo_type": kind, "revision": revision, "absent": EntryNotFoundError}
    file = ask(f"read {path} of the {KINDS[kind]} {repo_id}", api.hf_hub_download, repo_id, path, **options)
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


def size_of(content: Content) -> int:
    """Bytes of the content."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size
