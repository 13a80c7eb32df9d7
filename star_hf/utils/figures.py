"""Pictures drawn with matplotlib (extra `report`): one palette, and errors that say what to do."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from .extras import require


if TYPE_CHECKING:
    from matplotlib.figure import Figure


__all__ = ["COLOURS", "INK", "new_figure", "save_figure"]

INK = "#333333"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""The palette of Okabe and Ito, which colour-blind readers can tell apart."""


def new_figure(**options: Any) -> "Figure":
    """An empty figure with matplotlib's options, outside pyplot's global state."""
    require("report", "matplotlib", what="Drawing pictures")
    from matplotlib.figure import Figure

    return Figure(**options, layout="constrained")


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Write a figure in the format of the file's extension; its folder is created."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path)
    except ValueError as error:
        raise ConfigError(f"Cannot draw {path}: {error}.", "Name a .png, .svg or .pdf file.") from None
    return path
