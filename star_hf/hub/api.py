"""Calls to the Hub: the client, retries, and errors with a remedy."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import httpx
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from .. import __version__
from ..errors import ConfigError, IncompleteRunError, StarError


__all__ = ["KINDS", "ask", "hub_api"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

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
        except (httpx.HTTPError, OSError) as error:
            raise IncompleteRunError(
                f"Cannot {what}: the Hub cannot be reached ({type(error).__name__}).", "Run the same command again."
            ) from error
    raise AssertionError("the last attempt returns or raises")


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
