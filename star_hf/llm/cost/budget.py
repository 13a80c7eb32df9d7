"""Money: what a request may cost at most, and a limit that counts what is in flight."""

import math

from ...errors import ConfigError
from ..endpoint import Endpoint
from ..types import Request


__all__ = ["Budget", "prompt_tokens"]

LONGEST_ANSWER = 8_192
"""Tokens that a free answer is taken to have at most where the endpoint sets no `max_tokens`."""
LONGEST_STRUCTURED = 512
"""The same for an answer that a JSON schema bounds."""


def prompt_tokens(request: Request) -> int:
    """An estimate of the prompt's tokens: its UTF-8 bytes over four, which is about right for English."""
    return math.ceil(sum(len(message["content"].encode("utf-8", "replace")) for message in request.messages) / 4)


class Budget:
    """Dollars that may be spent, by all stages of a run together.

    A request is sent only while what was spent, what is in flight at most, and the request itself at most stay within
    the limit. So the limit holds even if every answer is as long as it may be.

    Args:
        limit_usd (`float`): The limit.
        spent_usd (`float`, defaults to 0): What the run has cost so far; see [`~star_hf.llm.Journal.cost`].
    """

    def __init__(self, limit_usd: float, spent_usd: float = 0.0):
        self.limit_usd = limit_usd
        self.spent_usd = spent_usd
        self._in_flight: dict[str, float] = {}
        self._set_aside = 0.0

    def reserve(self, key: str, request: Request, endpoint: Endpoint, price_factor: float = 1.0) -> bool:
        """Set the most that a request can cost aside; `False` where it does not fit.

        Args:
            key (`str`): The request's key.
            request (`Request`): What is to be asked.
            endpoint (`Endpoint`): Whom to ask.
            price_factor (`float`, defaults to 1): What of its price is paid, such as half in a batch.

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
        if self.spent_usd + self._set_aside + most > self.limit_usd:
            return False
        self._in_flight[key] = most
        self._set_aside += most
        return True

    @property
    def end(self) -> str:
        """Why a request was not let through, for people."""
        held = f", ${self._set_aside:,.4g} set aside for what is in flight" if self._in_flight else ""
        spent = f"${self.spent_usd:,.4g} spent{held}"
        return f"the budget of ${self.limit_usd:,.4g} allows no further request ({spent})"

    def settle(self, key: str, cost_usd: float | None) -> None:
        """A request was answered at this cost."""
        self._set_aside -= self._in_flight.pop(key, 0.0)
        self.spent_usd += cost_usd or 0.0

    def release(self) -> None:
        """Nothing is in flight any more; what was set aside for failed requests is free again."""
        self._in_flight.clear()
        self._set_aside = 0.0
