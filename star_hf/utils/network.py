"""Errors of the network, and whether they mean that a server cannot be reached."""

import socket
import urllib.request
from urllib.parse import urlsplit

from huggingface_hub.errors import HfHubHTTPError


__all__ = ["NETWORK_ERRORS", "unreachable"]

NETWORK_ERRORS: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
"""What a call to the Hub raises: the `HTTPError` of httpx (`huggingface_hub` 1) or httpx2 (2), and `OSError`."""


def unreachable(error: BaseException, address: str = "") -> bool:
    """Whether an error means that no server answered, not that one refused.

    fsspec calls any file that it cannot read over https missing. So for a missing file the host of `address` is looked
    up, unless a proxy does that.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        answered = getattr(cause, "response", None) is not None
        if isinstance(cause, (ConnectionError, TimeoutError, socket.gaierror)) and not answered:
            return True
        if isinstance(cause, NETWORK_ERRORS[:1]) and not answered:
            return True
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, FileNotFoundError):
        return False
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or parts.scheme in urllib.request.getproxies():
        return False
    try:
        socket.getaddrinfo(parts.hostname, parts.port or parts.scheme)
    except OSError:
        return True
    return False
