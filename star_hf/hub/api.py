"""Calls to the Hub, with retries and errors with a remedy, and the files of its repositories."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from .. import __version__
from ..errors import ConfigError, IncompleteRunError, StarError
from ..utils.files import sha256_of
from ..utils.network import NETWORK_ERRORS


__all__ = [
    "KINDS",
    "Content",
    "Kind",
    "ask",
    "download",
    "find",
    "hub_api",
    "is_same",
    "listing",
    "read_text",
    "size_of",
]

logger = logging.getLogger(__name__)

T = TypeVar("T")

Content = Path | bytes
"""A file on this machine, or a small one in memory."""

Kind = Literal["dataset", "model"]

KINDS = {"dataset": "data set", "model": "model", "space": "Space"}
"""The name of each type of repository in messages."""

TRANSIENT = (429, 500, 502, 503, 504)
ATTEMPTS = 5
LONGEST_WAIT_S = 60.0
TOKEN_REMEDY = (
    "Create a token with write access at https://huggingface.co/settings/tokens, then set HF_TOKEN or run "
    "`hf auth login`."
)


def hub_api() -> HfApi:
    """The Hub's client for `star_hf`; the token comes from `HF_TOKEN` or `hf auth login`."""
    return HfApi(library_name="star_hf", library_version=__version__)


def ask(
    what: str,
    call: Callable[..., T],
    *arguments: Any,
    absent: type[Exception] | tuple[()] = (),
    **options: Any,
) -> T | None:
    """Call the Hub; retry when it is overloaded or fails, and translate other errors.

    `what` is the action for the message, such as `"create the data set me/x"`. The error `absent` means `None`.

    Raises:
        ConfigError: If there is no token, it has no permission, or the repository's name is invalid.
        IncompleteRunError: If the Hub cannot be reached, or stays overloaded.
        StarError: For any other error, such as a missing repository.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call(*arguments, **options)
        except absent:
            return None
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status not in TRANSIENT or attempt == ATTEMPTS:
                raise _translated(what, error) from error
            pause = _pause(error, attempt)
            logger.warning("The Hub answered %d; trying again in %.0f s.", status, pause)
            time.sleep(pause)
        except LocalTokenNotFoundError as error:
            raise ConfigError(f"Cannot {what}: no token found.", TOKEN_REMEDY) from error
        except HFValidationError as error:
            raise ConfigError(f"Cannot {what}: {error}", "Give the repository as `owner/name`.") from error
        except NETWORK_ERRORS as error:
            raise IncompleteRunError(
                f"Cannot {what}: the Hub cannot be reached ({type(error).__name__}).", "Run the same command again."
            ) from error
    raise AssertionError("the last attempt returns or raises")


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


def _pause(error: HfHubHTTPError, attempt: int) -> float:
    """Seconds to wait: what the Hub asks for, or else twice as long each time."""
    asked = error.response.headers.get("Retry-After", "")
    return min(float(asked) if asked.replace(".", "", 1).isdigit() else 2.0**attempt, LONGEST_WAIT_S)


def _translated(what: str, error: HfHubHTTPError) -> StarError:
    status, said = error.response.status_code, error.server_message or ""
    if isinstance(error, GatedRepoError):
        page = "Log in on its page and accept its conditions, then set HF_TOKEN or run `hf auth login`."
        return ConfigError(f"Cannot {what}: it is gated, and this token has no access.", page)
    if isinstance(error, RepositoryNotFoundError):
        hidden = "Check the name. A private repository needs a token with read access: set HF_TOKEN."
        return StarError(f"Cannot {what}: there is no such repository, or this token has no access to it.", hidden)
    if isinstance(error, RevisionNotFoundError):
        return ConfigError(f"Cannot {what}: there is no such revision.", "Name a branch, a tag or a commit.")
    if status == 401:
        return ConfigError(f"Cannot {what}: the token is not valid.", TOKEN_REMEDY)
    if status == 403:
        return ConfigError(f"Cannot {what}: this token has no permission. The Hub says: {said}", TOKEN_REMEDY)
    if status in TRANSIENT:
        kept = "Uploaded files are kept: run the same command again later."
        return IncompleteRunError(f"Cannot {what}: the Hub answered {status} {ATTEMPTS} times.", kept)
    return StarError(f"Cannot {what}: the Hub answered {status}. It says: {said or error}")
