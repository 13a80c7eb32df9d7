"""Reports: a run, its training and its results as one HTML file that opens from disk."""

from ..utils.extras import require


require("report", "plotly", what="The report")

from .page import write_report  # noqa: E402


__all__ = ["write_report"]
