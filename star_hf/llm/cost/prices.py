"""What tokens cost: an endpoint's own price, or its provider's list price as of a recorded day."""

import functools
from pathlib import Path
from typing import Any

from pydantic import Field

from ...utils.options import Strict, read_yaml


__all__ = ["Price", "list_price"]


class Price(Strict):
    """Dollars per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


def list_price(provider: str, model: str) -> Price | None:
    """The price in `prices.yaml`, which records its date and source; `None` if it has none."""
    listed = _prices().get(provider, {}).get(model)
    return None if listed is None else Price(input=listed["input"], output=listed["output"])


@functools.cache
def _prices() -> dict[str, dict[str, dict[str, Any]]]:
    return read_yaml(Path(__file__).with_name("prices.yaml"))
