"""The values that the engine passes around: a request, a completion, and the names of what can go wrong."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from datasets import Features


__all__ = ["OUTCOMES", "Annotator", "Completion", "Message", "Request", "Unusable"]

OUTCOMES = frozenset({"ok", "truncated", "content_filter", "refused", "invalid_request"})
"""What can be said of an answer that came; what did not come is not kept."""

Message = dict[str, str]

_KEY_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=True).encode
"""Made once: `json.dumps` with options makes an encoder each time."""


@dataclass(frozen=True)
class Request:
    """Everything about one call that can change its answer, except the endpoint.

    Attributes:
        messages (`list[Message]`): The conversation, as the chat completions API takes it.
        schema (`dict`, *optional*): JSON schema that the answer must follow.
        reasoning (`bool`, defaults to `False`): Whether a thought is expected before the answer.
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
        # Not `asdict`, which copies every message first; an existing journal is found by this very JSON.
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
    """One answer of a model, as it is kept in the journal.

    Attributes:
        text (`str`): The message content, with any inline `<think>` left in place.
        reasoning (`str` or `None`): The thought, where the provider returns it in a field of its own.
        outcome (`str`): One of [`OUTCOMES`].
        detail (`str`): The provider's words on an outcome that is not `"ok"`.
        finish_reason (`str`): Why the answer ended, in the provider's word, such as `"stop"`.
        prompt_tokens, completion_tokens (`int`): As billed; an estimate where the provider does not say.
        usage (`str`): The provider's whole account of the last reply as JSON, such as tokens of a thought or from a
            cache.
        model, provider_id (`str`): What the provider says answered, and its id of the call.
        latency_s (`float`): Seconds from sending to the whole answer.
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
        reason (`str`): `"malformed"`, `"truncated"`, `"refused"`, `"content_filter"`, `"invalid_request"`.
        detail (`str`): One line on what was wrong with the reply. Only `"malformed"` replies are asked again, with
            this line.
    """

    reason: str
    detail: str = ""


class Annotator(Protocol):
    """One use of a model. Classifier, teacher, scorer, rewriter and judges are each some thirty lines of this.

    Attributes:
        stage (`str`): Name in the journal, in `removed` and in provenance.
        reasoning (`bool`): Whether the answer should carry a thought.
        features (`Features`): The columns that `parse` returns.
    """

    stage: str
    reasoning: bool
    features: Features

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The conversation for one row."""
        ...

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt file and of the policies that this row's messages are made from."""
        ...

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """JSON schema of the answer, or `None` for free text."""
        ...

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The columns of `features`, or the name of what is wrong. Sees only completions whose outcome is ok."""
        ...
