"""The journal: every paid answer is committed to it before anyone uses it."""

from .store import Entry, Journal


__all__ = ["Entry", "Journal"]
