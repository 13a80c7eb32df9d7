"""Every model call.

`endpoint.py` says where to ask, `types.py` what is passed around. `asking.py` runs the one act: ask for what is open,
within the budget, and commit each completion to the `journal/` before anyone uses it. The providers `http/`, `batch/`
and `embedded/` answer; `cost/` has prices, token counts and the budget. On top are `annotate.py` (columns of a data
set, with `walk.py` and `parsing.py`), `embeddings.py` (vectors), and `evaluation/generation/`.
"""

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
