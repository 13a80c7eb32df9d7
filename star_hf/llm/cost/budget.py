"""A limit in dollars that counts what requests in flight may cost."""

from ...errors import ConfigError
from ..endpoint import Endpoint
from ..types import Request
from .tokens import prompt_tokens


__all__ = ["Budget"]

LONGEST_ANSWER = 8_192
"""Assumed maximum tokens of a free answer if the endpoint sets no `max_tokens`."""
LONGEST_STRUCTURED = 512
"""The same for an answer with a JSON schema."""


class Budget:
    """Dollars that may be spent, by all stages of a run together.

    A request is sent only if the dollars spent, the most that requests in flight can cost, and the most that it can
    cost itself stay within the limit together. So the limit holds even if every answer has its maximum length.

    Args:
        limit_usd (`float`): The limit in dollars.
        spent_usd (`float`, defaults to 0): Dollars spent so far; see [`~star_hf.llm.Journal.cost`].
    """

    def __init__(self, limit_usd: float, spent_usd: float = 0.0):
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._in_flight: dict[str, float] = {}
        self._reserved = 0.0

    def reserve(self, key: str, request: Request, endpoint: Endpoint, price_factor: float = 1.0) -> bool:
        """Reserve the most that a request can cost, at a share of the price; returns `False` if it does not fit.

        Raises:
            ConfigError: If the endpoint has no price.
        """
        if endpoint.provider == "local":
            return True
        longest = endpoint.max_tokens or (LONGEST_ANSWER if request.schema is None else LONGEST_STRUCTURED)
        most = endpoint.cost(prompt_tokens(request), longest)
        if most is None:
            raise ConfigError(
                f"A budget is set, but model {endpoint.model!r} has no price.",
                "Give the endpoint its price per million tokens, such as `price: {input: 2.5, output: 10.0}`.",
            )
        most *= price_factor
        if self.spent_usd + self._reserved + most > self.limit_usd:
            return False
        self._in_flight[key] = most
        self._reserved += most
        return True

    @property
    def end(self) -> str:
        """Why a request was not sent, for people."""
        held = f", ${self._reserved:,.4g} reserved for requests in flight" if self._in_flight else ""
        spent = f"${self.spent_usd:,.4g} spent{held}"
        return f"the budget of ${self.limit_usd:,.4g} allows no further request ({spent})"

    def settle(self, key: str, cost_usd: float | None) -> None:
        """A request was answered at this cost."""
        self._reserved -= self._in_flight.pop(key, 0.0)
        self.spent_usd += cost_usd or 0.0

    def release(self) -> None:
        """Nothing is in flight any more: return what is reserved for failed requests."""
        self._in_flight.clear()
        self._reserved = 0.0
