"""Vectors from any OpenAI-compatible embeddings endpoint, with the retries, limits, pools and prices of every call."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ConfigError, IncompleteRunError
from ..utils.text import encodable
from .cost.budget import Budget, prompt_tokens
from .endpoint import Endpoint
from .http import pool
from .http.client import Client
from .journal import Entry, Journal
from .types import Completion, Request


__all__ = ["EndpointEncoder"]

logger = logging.getLogger(__name__)

Keep = Callable[[int, np.ndarray], None]

STAGE = "embed"
"""The stage under which the journal has what vectors cost."""
BATCH_SIZE = 32
REQUEST_BYTES = 200_000
"""Bytes of text per request at most, about 50,000 tokens: providers bound a request's tokens, OpenAI at 300,000."""


@dataclass(frozen=True)
class Embedded(Completion):
    """An answer that is vectors, float32 of shape `(texts, dimensions)`."""

    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32), compare=False, repr=False)


class EmbeddingClient(Client):
    """A client whose answers are vectors: one text per message of a request."""

    path = "embeddings"

    async def complete(self, request: Request) -> Completion:
        """The vectors of a request's texts; failures that may pass are retried."""
        return await self._persist(request)

    def _body(self, request: Request) -> dict[str, Any]:
        texts = [message["content"] for message in request.messages]
        return {"model": self.endpoint.model, "input": texts, "encoding_format": "float", **self.endpoint.extra_body}

    def _read(self, reply: Mapping[str, Any], request: Request) -> Completion:
        found = sorted(reply["data"], key=lambda item: item["index"])
        if [item["index"] for item in found] != list(range(len(request.messages))):
            raise ValueError("not one vector per text")
        vectors = np.array([item["embedding"] for item in found], np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if vectors.ndim != 2 or not np.isfinite(lengths).all() or not lengths.all():
            raise ValueError("vectors without a direction")
        tokens = int((reply.get("usage") or {}).get("prompt_tokens") or prompt_tokens(request))
        return Embedded("", prompt_tokens=tokens, model=reply.get("model") or "", vectors=vectors / lengths)


class EndpointEncoder:
    """A model behind an embeddings endpoint, as an [`~star_hf.similarity.encoders.Encoder`].

    Args:
        endpoint (`Endpoint`): Whom to ask. What it says of chat alone, such as `temperature`, is not sent;
            `extra_body` is, such as `{"dimensions": 256}`.
        batch_size (`int`, defaults to `BATCH_SIZE`): Texts per request at most; Text Embeddings Inference takes no
            more than 32 unless told to.
        journal (`Journal`, *optional*): Where to write what each request cost. The vectors themselves are kept by
            [`~star_hf.similarity.vectors.embed`].
        budget (`Budget`, *optional*): What may be spent.

    Raises:
        ConfigError: If the endpoint is the embedded model, which has no vectors to give.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        batch_size: int = BATCH_SIZE,
        journal: Journal | None = None,
        budget: Budget | None = None,
    ):
        if endpoint.provider == "local":
            raise ConfigError(
                "The embedded model writes text and makes no vectors.",
                "Leave `encoder` out for the packaged all-MiniLM-L6-v2.",
            )
        at = endpoint.name or endpoint.url
        extra = json.dumps(endpoint.extra_body, sort_keys=True) if endpoint.extra_body else ""
        self.identity = f"{endpoint.model}@{at}{extra}"
        self._endpoint, self._batch_size, self._journal, self._budget = endpoint, batch_size, journal, budget
        self._where = {"at": at, "model": endpoint.model, "extra_body": endpoint.extra_body}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of float32, shape `(texts, dimensions)`; what came is lost where some stay unanswered."""
        parts: dict[int, np.ndarray] = {}
        self.in_parts(texts, parts.__setitem__)
        return np.concatenate([parts[start] for start in sorted(parts)]) if parts else np.empty((0, 0), np.float32)

    def in_parts(self, texts: Sequence[str], keep: Keep) -> None:
        """Encode texts, handing each request's vectors over as soon as they are there.

        Args:
            texts (`Sequence[str]`): Any number of texts.
            keep (`Callable`): Called with the number of the first text, and the vectors from it on.

        Raises:
            ConfigError: If the endpoint refuses key, model or account, or a budget is set without a price.
            IncompleteRunError: If texts stayed without vectors; those that came were handed over.
        """
        asking = _Asking(self._endpoint, self._where, self._journal, self._budget, keep)
        requests = asking.requests(list(_batches(texts, self._batch_size)))
        failures = pool.drain(self._endpoint, requests, asking.keep, EmbeddingClient) + asking.refused
        if self._budget is not None:
            self._budget.release()
        if failures or asking.stopped:
            raise IncompleteRunError(
                f"Of {len(texts)} texts {len(texts) - asking.done} stayed without a vector from "
                f"{self._endpoint.model!r}: {failures[-1] if failures else asking.stopped}",
                "The vectors that came are kept. Run the same command again to go on"
                + (" with a higher budget." if not failures else ".")
                + (" Texts may be too long for the model: see `collect.max_chars`." if asking.refused else ""),
            )


def _batches(texts: Sequence[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """The texts in order, at most `size` and `REQUEST_BYTES` of them at a time, with the number of the first."""
    start, batch, room = 0, [], REQUEST_BYTES
    for number, text in enumerate(texts):
        # Endpoints refuse an empty text, and no vector of ours may depend on which one says so.
        text = encodable(text) or " "
        length = len(text.encode())
        if batch and (len(batch) == size or length > room):
            yield start, batch
            start, batch, room = number, [], REQUEST_BYTES
        batch.append(text)
        room -= length
    if batch:
        yield start, batch


@dataclass
class _Asking:
    """One call of `in_parts`: what it sends, and what comes back."""

    endpoint: Endpoint
    where: dict[str, Any]
    journal: Journal | None
    budget: Budget | None
    hand_over: Keep
    starts: dict[str, int] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    stopped: str | None = None
    done: int = 0

    def requests(self, batches: list[tuple[int, list[str]]]) -> Iterator[tuple[str, Request]]:
        for start, texts in batches:
            request = Request([{"role": "user", "content": text} for text in texts])
            key = request.key(self.where)
            if self.budget is not None and not self.budget.reserve(key, request, self.endpoint):
                self.stopped = self.budget.end
                return
            self.starts[key] = start
            yield key, request

    def keep(self, key: str, completion: Completion) -> None:
        """Hand vectors over first, then write what they cost."""
        cost = self.endpoint.cost(completion.prompt_tokens, 0)
        if isinstance(completion, Embedded):
            self.hand_over(self.starts[key], completion.vectors)
            self.done += len(completion.vectors)
            if self.journal is not None:
                receipt = Completion("", prompt_tokens=completion.prompt_tokens, model=completion.model)
                self.journal.put(Entry(key, STAGE, str(self.where["at"]), "", receipt, cost))
        else:
            self.refused.append(f"{completion.outcome}: {completion.detail}")
        if self.budget is not None:
            self.budget.settle(key, cost)
