"""Errors that a user can act on: each says what was wrong, where, and what to do."""

__all__ = [
    "BusyError",
    "ConfigError",
    "IncompleteRunError",
    "PolicyError",
    "SourceError",
    "StarError",
    "TrainingError",
    "first_line",
]


class StarError(Exception):
    """Base of all errors that `star_hf` raises on purpose.

    Args:
        message (`str`): What was wrong and where.
        remedy (`str`, *optional*): What the user can do about it; shown on a line of its own.
    """

    def __init__(self, message: str, remedy: str | None = None):
        super().__init__(message if remedy is None else f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy


class BusyError(StarError):
    """Another process holds the lock of a folder."""


class ConfigError(StarError):
    """A configuration file or option that cannot be used."""


class PolicyError(StarError):
    """A policy (taxonomy) file or prompt that cannot be used."""


class SourceError(StarError):
    """A source data set that cannot be found, read or understood."""


class TrainingError(StarError):
    """A training that would not do what its recipe says; found before any weight is loaded."""


class IncompleteRunError(StarError):
    """Work stopped before its end; everything done so far is kept and the same command goes on."""


def first_line(error: Exception) -> str:
    """What an error of others says, in one line of 200 characters at most; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
