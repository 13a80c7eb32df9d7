"""Where a key may go: to its provider and to this machine. Anywhere else only if the user says so, not a recipe."""

import os
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from ..errors import ConfigError


__all__ = ["LOOPBACK", "TRUSTED", "ask_with", "check_host", "trust"]

TRUSTED = "STAR_HF_TRUSTED_HOSTS"
"""Environment variable with the hosts that may get keys, separated by commas. One may get keys over plain http only if
it is written as `http://host`."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

_ask: Callable[[str], bool] | None = None


def ask_with(ask: Callable[[str], bool] | None) -> None:
    """Ask a person by this function, which takes a question, before a key goes to a strange host."""
    global _ask
    _ask = ask


def trust(hosts: Iterable[str]) -> None:
    """Let keys go to these hosts, in this process and those that it starts."""
    known = [os.environ.get(TRUSTED, ""), *hosts]
    os.environ[TRUSTED] = ",".join(filter(None, known))


def check_host(variable: str, url: str, homes: Iterable[str | None]) -> None:
    """Check that the key in an environment variable may go to a URL, without looking at the key.

    Args:
        homes (iterable of `str`): Hosts of the key's provider; with a dot in front, all hosts below it.

    Raises:
        ConfigError: If nobody has agreed to it, or the connection can be read by others.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if host in LOOPBACK:
        return
    trusted = [urlsplit(entry if "://" in entry else f"https://{entry}") for entry in _entries()]
    agreed = [entry for entry in trusted if entry.hostname == host and entry.port in (None, parts.port)]
    if parts.scheme != "https":
        if any(entry.scheme == "http" for entry in agreed):
            return
        raise ConfigError(
            f"The key in ${variable} would go to {url} over plain http, where others can read it.",
            f"Use https. Or, in a network of your own, {_how(f'http://{parts.netloc}')}",
        )
    own = any(host == home or (home[:1] == "." and host.endswith(home)) for home in homes if home)
    if own or agreed:
        return
    if _ask is not None and _ask(f"The key in ${variable} will go to {host}, which is not its provider's. Send it?"):
        return trust([host])
    raise ConfigError(
        f"The key in ${variable} would go to {host}, which is not its provider's.",
        f"Check the recipe, above all if it is not your own. If you trust the host, {_how(host)}",
    )


def _entries() -> list[str]:
    return [entry.strip().lower() for entry in os.environ.get(TRUSTED, "").split(",") if entry.strip()]


def _how(host: str) -> str:
    return f"put `--trust-host {host}` after `star-hf`, or set {TRUSTED}={host} in the environment."
