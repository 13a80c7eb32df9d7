"""What the engine passes around: requests, completions, named failures; and the two interfaces that it works with."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from datasets import Features


__all__ = ["OUTCOMES", "Annotator", "Completion", "Keyed", "Message", "OnResult", "Provider", "Request", "Unusable"]

OUTCOMES = frozenset(
    {"ok", "truncated", "content_filter", "refused", "invalid_request", "empty", "unknown_finish", "unreadable"}
)
"""Outcomes of a completion: a whole answer is `"ok"`, everything else a named failure. `"unknown_finish"` ended for a
reason that nobody foresaw. A request without an answer has no outcome, and nothing is kept of it."""

Message = dict[str, str]

_KEY_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=True).encode
"""Made once, since `json.dumps` with options makes an encoder each time."""


@dataclass(frozen=True)
class Request:
    """Everything about one call that can change its answer, except the endpoint.

    Attributes:
        messages (`list[Message]`): The conversation, as the chat completions API takes it.
        schema (`dict`, *optional*): JSON schema that the answer must follow.
        reasoning (`bool`, defaults to `False`): Whether the model should think before it answers.
        version (`str`, defaults to `""`): Hash of the prompt and the policies behind `messages`.
        sample (`int`, defaults to 0): Index among several samples of the same request.
    """

    messages: list[Message]
    schema: dict[str, Any] | None = None
    reasoning: bool = False
    version: str = ""
    sample: int = 0

    def key(self, endpoint_identity: Mapping[str, Any]) -> str:
        """SHA-256 over the request and the endpoint's identity (which holds no secret)."""
        # Not `asdict`, which copies every message. Existing journals have keys of exactly this JSON.
        parts = {
            "endpoint": endpoint_identity,
            "messages": self.messages,
            "schema": self.schema,
            "reasoning": self.reasoning,
            "version": self.version,
            "sample": self.sample,
        }
        return hashlib.sha256(_KEY_JSON(parts).encode()).hexdigest()


@dataclass(frozen=True)
class Completion:
    """What a model call returned, as the journal keeps it.

    Attributes:
        text (`str`): The message content, with any inline `<think>`.
        reasoning (`str` or `None`): The reasoning, if the provider returns it in a separate field.
        outcome (`str`): One of [`OUTCOMES`].
        detail (`str`): The provider's message for an outcome other than `"ok"`.
        finish_reason (`str`): The provider's reason for the end of the answer, such as `"stop"`.
        prompt_tokens, completion_tokens (`int`): As billed; an estimate if the provider does not report them.
        usage (`str`): The provider's usage record of the last reply as JSON, such as reasoning or cached tokens.
        model, provider_id (`str`): The model that the provider reports, and its id of the call.
        latency_s (`float`): Seconds from sending the request to the end of the answer.
    """

    text: str
    reasoning: str | None = None
    outcome: str = "ok"
    detail: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage: str = ""
    model: str = ""
    provider_id: str = ""
    latency_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Unusable:
    """A named failure of one row: never a score, never an answer.

    Attributes:
        reason (`str`): `"malformed"`, `"unavailable"`, or one of [`OUTCOMES`].
        detail (`str`): One line on what was wrong. Only `"malformed"` replies are asked again, with this line.
    """

    reason: str
    detail: str = ""


Keyed = tuple[str, Request]
"""A request with its key in the journal."""

OnResult = Callable[[str, Completion], None]
"""Takes a request's key and its completion, and commits it before it returns."""


class Provider(Protocol):
    """Whatever answers requests: servers over HTTP, a Batch API, or a model in this process."""

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """Answer requests, each handed to `on_result` as soon as it is answered.

        Requests are drawn as there is room for the next one, so that memory does not grow with their number.

        Returns:
            `list[str]`: Why requests have no answer, one line each; empty when nothing failed.

        Raises:
            ConfigError: If key, model or account are refused, or a package is missing.
        """
        ...


class Annotator(Protocol):
    """One use of a model: classifier, teacher, scorer, rewriter and judges are annotators.

    Attributes:
        stage (`str`): Its name in the journal, in `removed` and in provenance.
        reasoning (`bool`): Whether the model should think before it answers.
        features (`Features`): The columns that `parse` returns.
    """

    stage: str
    reasoning: bool
    features: Features

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The conversation for one row."""
        ...

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt file and the policies behind this row's messages."""
        ...

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """JSON schema of the answer, or `None` for free text."""
        ...

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The columns of `features`, or a named failure. Called only for completions with outcome `"ok"`."""
        ...
