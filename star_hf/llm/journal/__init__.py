"""The journal: every paid answer is in it before anyone uses it."""

from .store import Entry, Journal


__all__ = ["Entry", "Journal"]
