"""Every model call goes through here: endpoints, the journal of paid answers, and `annotate`, which runs them."""

from .annotate import annotate
from .cost.budget import Budget
from .cost.prices import Price
from .endpoint import PRESETS, Batch, Endpoint
from .journal import Journal
from .types import Annotator, Completion, Request, Unusable


__all__ = [
    "PRESETS",
    "Annotator",
    "Batch",
    "Budget",
    "Completion",
    "Endpoint",
    "Journal",
    "Price",
    "Request",
    "Unusable",
    "annotate",
]
