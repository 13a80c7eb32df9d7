"""Look at a data set before it is trained on or published: what it repeats, what it gives away, what is broken."""

from .auditing import audit
from .page import to_html, to_markdown
from .types import SEVERITIES, Audit, Finding, Hit


__all__ = ["SEVERITIES", "Audit", "Finding", "Hit", "audit", "to_html", "to_markdown"]
