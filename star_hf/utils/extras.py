"""Optional packages: one message for what is not installed."""

import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

from ..errors import ConfigError


__all__ = ["install", "missing", "require"]


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
            f"Install them: {install(extra)}",
        )


def install(extra: str) -> str:
    """The command that installs an extra's packages beside this very installation, from a wheel, a clone or by `hf`.

    star_hf itself is on no index, so the packages are named, with the Python that runs now.
    """
    try:
        given = requires("star_hf") or []
    except PackageNotFoundError:
        given = []
    pattern = re.compile(rf"""extra\s*==\s*["']{extra}["']""")
    packages = [line.partition(";")[0].strip() for line in given if pattern.search(line)]
    if not packages:
        return f'pip install -c constraints.txt -e ".[{extra}]"'
    return shlex.join([sys.executable, "-m", "pip", "install", *packages])
