"""Errors that a user can act on: each says what is wrong, where, and what to do."""

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
    """Base class of the errors of `star_hf`.

    Args:
        message (`str`): What is wrong and where.
        remedy (`str`, *optional*): What the user can do about it; shown on a separate line.
    """

    def __init__(self, message: str, remedy: str | None = None):
        super().__init__(message if remedy is None else f"{message}\n{remedy}")
        self.message = message
        self.remedy = remedy


class BusyError(StarError):
    """Another process holds the lock of a folder."""


class ConfigError(StarError):
    """An invalid configuration file or option."""


class PolicyError(StarError):
    """An invalid policy (taxonomy) file or prompt."""


class SourceError(StarError):
    """A source data set that cannot be found, read or parsed."""


class TrainingError(StarError):
    """A training that would not do what its recipe says; raised before any weights are loaded."""


class IncompleteRunError(StarError):
    """Work stopped early; everything done so far is kept and the same command continues."""


def first_line(error: Exception) -> str:
    """The first line of another library's error, 200 characters at most; its class name if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
