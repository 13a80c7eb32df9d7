"""Check a data set before training or publishing: duplicates, contamination, malformed rows, languages, licences."""

from .auditing import audit
from .page import to_html, to_markdown
from .types import SEVERITIES, Audit, Finding, Hit


__all__ = ["SEVERITIES", "Audit", "Finding", "Hit", "audit", "to_html", "to_markdown"]
