"""Optional packages: one message for what is not installed."""

from importlib.util import find_spec

from ..errors import ConfigError


__all__ = ["missing", "require"]


def missing(*packages: str) -> list[str]:
    """Those of some packages (named as they are imported) that are not installed. Imports none of them."""
    return [package for package in packages if find_spec(package) is None]


def require(extra: str, *packages: str, what: str) -> None:
    """Check that an extra's packages (named as they are imported) are installed, without importing them.

    Raises:
        [`ConfigError`]: If one is missing, with `what` needs it, such as `"The report"`, and what installs it.
    """
    if absent := missing(*packages):
        raise ConfigError(
            f"{what} needs packages that are not installed: {', '.join(absent)}.",
            f'Install them: pip install "star_hf[{extra}]"',
        )
