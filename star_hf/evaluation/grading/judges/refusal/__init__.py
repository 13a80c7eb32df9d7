"""A judge of refusals that runs here: sentence vectors and phrases under a small trained head."""

from .judge import LABELS, Refusal


__all__ = ["LABELS", "Refusal"]
