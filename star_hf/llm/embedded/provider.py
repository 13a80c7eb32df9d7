"""The embedded model as a provider: requests go into its batch as others leave it, and each answer is kept at once.

An answer's bytes depend on its neighbours in the batch and on what the cache holds. So a run that was killed asks for
what it lacks, never again for what it has, and may end with other words than an undisturbed one.
"""

import hashlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ...utils.text import CLOSE, OPEN, join_reasoning
from ..endpoint import Endpoint
from ..types import Completion, Keyed, OnResult, Request
from .model import CACHE_GB, EmbeddedModel, load


__all__ = ["EmbeddedProvider"]

MAX_TOKENS = 1024
"""Tokens of an answer if the endpoint has no `max_tokens`."""


class EmbeddedProvider:
    """The model that a `provider: local` endpoint names, loaded when the first request comes."""

    def __init__(self, endpoint: Endpoint):
        self._endpoint = endpoint

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """See [`~star_hf.llm.types.Provider`]. Nothing fails for now: each request has an answer or a named failure.

        Raises:
            ConfigError: If the model cannot be loaded, or refuses an option or a schema.
        """
        first = next(requests, None)
        if first is not None:
            _Batch(load(self._endpoint.model), self._endpoint, on_result).run(itertools.chain([first], requests))
        return []


@dataclass
class _Writing:
    """A request in progress: the text that the model goes on with, and what it has written before that."""

    key: str
    request: Request
    text: str
    thinking: bool
    handle: Any = None
    alone: bool = False
    thought: str | None = None
    detail: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    started: float = field(default_factory=time.monotonic)


class _Batch:
    """The requests of one call, at most the endpoint's `concurrency` at a time.

    A response with reasoning is written in two parts: a thought, which is closed after two thirds of `max_tokens`
    (budget forcing, https://arxiv.org/abs/2501.19393), then the answer.
    """

    def __init__(self, model: EmbeddedModel, endpoint: Endpoint, on_result: OnResult):
        self._model, self._endpoint, self._on_result = model, endpoint, on_result
        self._limit = endpoint.max_tokens or MAX_TOKENS
        self._active: list[_Writing] = []
        self._too_large: list[_Writing] = []
        self._room = 1

    def run(self, requests: Iterator[Keyed]) -> None:
        """Answer all requests. Those that an error or Ctrl-C leaves unfinished are dropped."""
        try:
            while self._fill(requests):
                self._model.step()
                for writing in self._active[:]:
                    # The first request is alone until it writes, so that the others find its prompt's start cached.
                    self._room = self._endpoint.concurrency if writing.handle.can_read() else self._room
                    if writing.handle.get_status().name != "RUNNING":
                        self._active.remove(writing)
                        self._read(writing)
        finally:
            for writing in self._active:
                writing.handle.cancel()

    def _fill(self, requests: Iterator[Keyed]) -> bool:
        """Start requests while there is room; returns whether any is in progress."""
        while len(self._active) < self._room and (keyed := next(requests, None)) is not None:
            key, request = keyed
            text = self._model.prompt(request.messages)
            if request.reasoning and not text.rstrip().endswith(OPEN):
                text += f"{OPEN}\n"
            self._start(_Writing(key, request, text, request.reasoning))
        if not self._active and self._too_large:
            self._start(self._too_large.pop())
        return bool(self._active)

    def _start(self, writing: _Writing) -> None:
        prompt = self._model.encode(writing.text)
        length = prompt.shape[1]
        writing.prompt_tokens = writing.prompt_tokens or length
        room = self._model.window - length
        if room <= 0:
            writing.detail = f"{length} tokens do not fit in the model's context window of {self._model.window}"
            return self._finish(writing, "", "invalid_request", "")
        left = self._limit * 2 // 3 if writing.thinking else self._limit - writing.completion_tokens
        schema = None if writing.thinking else writing.request.schema
        writing.handle = self._model.start(prompt, self._options(writing, max(1, min(left, room))), schema)
        self._active.append(writing)

    def _options(self, writing: _Writing, max_new_tokens: int) -> dict[str, Any]:
        endpoint = self._endpoint
        own = {name: set(value) if isinstance(value, list) else value for name, value in endpoint.extra_body.items()}
        options: dict[str, Any] = {"max_new_tokens": max_new_tokens}
        if writing.request.reasoning:
            options["stop_strings"] = {CLOSE, *own.get("stop_strings", ())}
        if endpoint.temperature:
            # Not the endpoint's seed alone: requests with the same one would all draw the same numbers.
            drawn = hashlib.sha256(f"{endpoint.seed} {writing.request.sample} {writing.key}".encode()).digest()
            options |= {"do_sample": True, "temperature": endpoint.temperature, "top_p": endpoint.top_p or 1.0}
            options["rng_seed"] = int.from_bytes(drawn[:4])
        return {**own, **options}

    def _read(self, writing: _Writing) -> None:
        """Take what the model wrote: a thought, which the answer follows, or the end of the answer."""
        status, outputs = writing.handle.get_status().name, writing.handle.read_all()
        tokens = outputs[0].generated_ids if outputs else []
        reason = outputs[0].finish_reason.name if status == "FINISHED" and outputs else status
        if reason == "IGNORED" and not writing.alone:
            writing.alone = True  # it, or its neighbour, did not fit in the cache
            return self._too_large.append(writing)
        text = self._model.decode(tokens)
        writing.completion_tokens += len(tokens)
        if reason == "IGNORED":
            writing.detail = f"prompt and answer do not fit in the cache of {CACHE_GB} GB"
            return self._finish(writing, text, "truncated" if tokens else "invalid_request", "length")
        if writing.thinking:
            writing.thought, writing.thinking, writing.alone = text.strip(), False, False
            if reason != "STOP":
                writing.detail = f"thought closed after {len(tokens)} tokens"
            writing.text += f"{writing.thought}\n{CLOSE}\n\n"
            return self._start(writing)
        self._finish(writing, text, "ok" if reason == "STOP" else "truncated", reason.lower())

    def _finish(self, writing: _Writing, text: str, outcome: str, finish_reason: str) -> None:
        if writing.thought is not None:
            text = join_reasoning(writing.thought, text.strip())
        elif writing.text.rstrip().endswith(OPEN):
            text = f"{OPEN}\n{text}"  # the template opened the reasoning
        completion = Completion(
            text=text,
            outcome=outcome,
            detail=writing.detail,
            finish_reason=finish_reason,
            prompt_tokens=writing.prompt_tokens,
            completion_tokens=writing.completion_tokens,
            model=self._model.name,
            latency_s=time.monotonic() - writing.started,
        )
        self._on_result(writing.key, completion)
