"""Vectors from any OpenAI-compatible embeddings endpoint, with the retries, limits, pools and prices of every call."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..utils.progress import track
from ..utils.text import encodable
from .asking import Asking
from .cost.budget import Budget
from .cost.tokens import prompt_tokens
from .endpoint import Endpoint
from .http.replies import label, tokens_of
from .http.wire import Api
from .journal import Entry, Journal
from .types import Completion, Request


__all__ = ["EndpointEncoder"]

Keep = Callable[[int, np.ndarray], None]

STAGE = "embed"
"""The stage of the journal entries."""
BATCH_SIZE = 32
REQUEST_BYTES = 200_000
"""Bytes of text per request at most, about 50,000 tokens: providers limit a request's tokens, OpenAI to 300,000."""


@dataclass(frozen=True)
class Embedded(Completion):
    """A completion that is vectors, float32 of shape `(texts, dimensions)`."""

    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32), compare=False, repr=False)


def _body(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """One text per message of the request."""
    texts = [message["content"] for message in request.messages]
    return {"model": endpoint.model, "input": texts, "encoding_format": "float", **endpoint.extra_body}


def _read(reply: Mapping[str, Any], request: Request | None) -> Completion:
    found = sorted(reply["data"], key=lambda item: item["index"])
    expected = len(found) if request is None else len(request.messages)
    if [item["index"] for item in found] != list(range(expected)):
        raise ValueError("not one vector per text")
    vectors = np.array([item["embedding"] for item in found], np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if vectors.ndim != 2 or not np.isfinite(lengths).all() or not lengths.all():
        raise ValueError("vectors without a direction")
    tokens = tokens_of(reply.get("usage"), "prompt_tokens") or (prompt_tokens(request) if request else 0)
    return Embedded("", prompt_tokens=tokens, model=label(reply.get("model")), vectors=vectors / lengths)


EMBEDDINGS = Api("list of embeddings", "embeddings", _body, _read, repeats_empty=False)


class EndpointEncoder:
    """A model behind an embeddings endpoint, as an [`~star_hf.similarity.encoders.Encoder`].

    Args:
        endpoint (`Endpoint`): Where to ask. Its chat options, such as `temperature`, are not sent; its `extra_body`
            is, such as `{"dimensions": 256}`.
        batch_size (`int`, defaults to `BATCH_SIZE`): Texts per request at most; Text Embeddings Inference accepts no
            more than 32 by default.
        journal (`Journal`, *optional*): Where the cost of each request is recorded, and batches, if the endpoint has
            them. The vectors themselves are kept by [`~star_hf.similarity.vectors.embed`].
        budget (`Budget`, *optional*): Dollars that may be spent.
        languages (`Sequence[str]`, *optional*): Languages and scripts that the model is known to read.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        batch_size: int = BATCH_SIZE,
        journal: Journal | None = None,
        budget: Budget | None = None,
        languages: Sequence[str] | None = None,
    ):
        self.languages = languages
        if endpoint.provider == "local":
            raise ConfigError(
                "The embedded model writes text and makes no vectors.",
                "Leave `encoder` out to use the packaged all-MiniLM-L6-v2.",
            )
        at = endpoint.place
        extra = json.dumps(endpoint.extra_body, sort_keys=True) if endpoint.extra_body else ""
        self.identity = f"{endpoint.model}@{at}{extra}"
        self._endpoint, self._batch_size, self._journal, self._budget = endpoint, batch_size, journal, budget
        self._where = {"at": at, "model": endpoint.model, "extra_body": endpoint.extra_body}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of float32, shape `(texts, dimensions)`; all are lost if some texts have no answer."""
        parts: dict[int, np.ndarray] = {}
        self.in_parts(texts, parts.__setitem__)
        return np.concatenate([parts[start] for start in sorted(parts)]) if parts else np.empty((0, 0), np.float32)

    def in_parts(self, texts: Sequence[str], keep: Keep) -> None:
        """Encode texts; `keep` gets the vectors of each request as they arrive, with the number of the first text.

        Raises:
            ConfigError: If the endpoint refuses key, model or account, or a budget is set without a price.
            IncompleteRunError: If texts have no vector; vectors that arrived were handed over.
        """
        parts: dict[str, tuple[Request, list[int]]] = {}
        for start, batch in _batches(texts, self._batch_size):
            request = Request([{"role": "user", "content": text} for text in batch])
            parts.setdefault(request.key(self._where), (request, []))[1].append(start)
        with track(f"{STAGE}: {self._endpoint.model}", len(parts), False) as bar:
            where = (STAGE, self._where["at"], self._endpoint, self._journal)
            asking = _Vectors(*where, bar, self._budget, parts, keep)
            if asking.run(lambda: ((key, request) for key, (request, _) in parts.items())) and not asking.refused:
                return
        asking.failures += asking.refused
        raise asking.incomplete(
            f"{STAGE}: no vector from {self._endpoint.model!r} for {len(texts) - asking.done} of {len(texts)} texts",
            "The vectors that arrived are kept."
            + (" Texts may be too long for the model: see `collect.max_chars`." if asking.refused else ""),
        )


def _batches(texts: Sequence[str], size: int) -> Iterator[tuple[int, list[str]]]:
    """The texts in order, at most `size` and `REQUEST_BYTES` of them at a time, with the number of the first."""
    start, batch, room = 0, [], REQUEST_BYTES
    for number, text in enumerate(texts):
        # Endpoints refuse an empty text, and which one does must not change a vector.
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
class _Vectors(Asking):
    """One call of `in_parts`: vectors are handed over, and the journal keeps what they cost.

    An earlier run's journal entry means nothing here, since its vectors may be gone: a request is answered once its
    vectors were handed over in this call.
    """

    parts: Mapping[str, tuple[Request, list[int]]]
    keep: Keep

    api = EMBEDDINGS
    shared = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._over: set[str] = set()
        self.refused: list[str] = []
        self.done = 0

    def answered(self, key: str) -> bool:
        # A batch of an earlier run may hold requests that this call does not have.
        return key in self._over or (key not in self.parts and super().answered(key))

    def commit(self, entry: Entry) -> None:
        """Hand vectors over first, then record their cost."""
        answer = entry.completion
        if not isinstance(answer, Embedded):
            self._over.add(entry.key)
            self.refused.append(f"{answer.outcome}: {answer.detail}")
            return
        request, starts = self.parts.get(entry.key, (None, []))
        if request is not None and len(answer.vectors) == len(request.messages):
            for start in starts:
                self.keep(start, answer.vectors)
                self.done += len(answer.vectors)
            self._over.add(entry.key)
        receipt = Completion("", prompt_tokens=answer.prompt_tokens, model=answer.model)
        super().commit(replace(entry, completion=receipt))
