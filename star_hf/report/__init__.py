"""Reports for people: a run, its training and its results as one HTML file that opens from disk."""

from .page import write_report


__all__ = ["write_report"]
