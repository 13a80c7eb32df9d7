"""What a reply of an OpenAI-compatible API says: its JSON, and the completion in it. Nothing in a reply is trusted."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...utils.secrets import redacted, without_secrets
from ...utils.text import encodable
from ..cost.tokens import ESTIMATE, prompt_tokens
from ..types import Completion, Request


__all__ = ["Unfinished", "body_of", "completion_of", "label", "tokens_of", "words"]

WHOLE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence"})
"""Finish reasons of a whole answer, in any letter case; the last three are TGI's and Anthropic's words for `stop`."""
CUT = frozenset({"length", "max_tokens", "model_length", "max_output_tokens"})
FILTERED = frozenset(
    {"content_filter", "safety", "sensitive", "recitation", "blocklist", "prohibited_content", "spii"}
)
BROKEN_OFF = frozenset(
    {
        "insufficient_system_resource",
        "error",
        "abort",
        "aborted",
        "cancelled",
        "timeout",
        "network_error",
        "overloaded",
    }
)
"""Finish reasons that say: try again."""

PARTS = {
    **dict.fromkeys(("text", "output_text"), "text"),
    **dict.fromkeys(("thinking", "reasoning", "reasoning.text", "reasoning.summary", "summary_text"), "thinking"),
    "refusal": "refusal",
}
"""What the parts of a content are, by their `type`, and the fields that may hold what is in one."""
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")
"""Where a message may have its thought; the last one is OpenRouter's."""
INSIDE = ("text", "thinking", "reasoning", "summary", "refusal", "content", "value")

MOST_TOKENS = 10**9
"""No request has more; a larger number is an error of the provider's."""
LABEL, USAGE = 200, 10_000
"""Characters at most of a provider's names and ids, and of its usage record."""


class Unfinished(ValueError):
    """The provider broke an answer off and says so. `paid` has the tokens that count anyway."""

    def __init__(self, paid: Completion, said: str = ""):
        super().__init__(f"the answer was broken off ({said or f'finish reason {paid.finish_reason!r}'})")
        self.paid = paid


def body_of(content: bytes, charset: str | None = None) -> Any:
    """The JSON of a reply, without any secret of ours in it. An event stream is put together.

    Characters that are not UTF-8, or not of the given `charset`, are replaced.

    Raises:
        ValueError: If it is no JSON.
        RecursionError: If it is nested too deeply.
    """
    text = _decoded(content, charset)
    if text.lstrip().startswith(("data:", "event:", "id:", ":", "retry:")):
        return without_secrets(_joined(text))
    return without_secrets(json.loads(text))


def completion_of(reply: Mapping[str, Any], request: Request | None = None) -> Completion:
    """Read a chat completion, as an [`~star_hf.llm.http.wire.Api`] does.

    Content may be text, a list of parts, or a JSON object. What is a reply to the request, but holds no message that
    can be read, is a completion with the outcome `"unreadable"`: it may have been paid.

    Where `usage` is missing or impossible, the tokens of the prompt and of the answer are estimated, so that the reply
    does not count as free.

    Raises:
        Unfinished: If the provider says that the answer is not whole and may be asked for again.
        LookupError, TypeError, ValueError, AttributeError: If this is no chat completion.
    """
    choices = reply["choices"]
    if not isinstance(choices, list) or (reply.get("error") and not choices):
        raise TypeError("no list of choices")
    choice = choices[0] if choices and isinstance(choices[0], Mapping) else {}
    message = _message(choice)
    read = _Read()
    if message is not None:
        read.content(message.get("content"))
        for name in THOUGHTS:
            if not read.thoughts:
                read.content(message.get(name), "thinking")
        read.content(message.get("refusal"), "refusal")
    text, thought, refusal = ("".join(parts) for parts in (read.texts, read.thoughts, read.refusals))
    finish_reason = _finish_reason(choice)
    outcome, detail = _outcome(finish_reason)
    if message is None or (read.unknown and not text and not refusal):
        outcome, detail = "unreadable", f"The reply has no message that can be read{read.unknown}."
    usage = reply.get("usage") if isinstance(reply.get("usage"), Mapping) else {}
    completion = Completion(
        text=encodable(text),
        reasoning=encodable(thought) if thought else None,
        outcome="refused" if refusal else outcome,
        detail=encodable(refusal) or detail,
        finish_reason=finish_reason,
        prompt_tokens=tokens_of(usage, "prompt_tokens") or (prompt_tokens(request) if request else 0),
        completion_tokens=tokens_of(usage, "completion_tokens") or ESTIMATE.count(f"{text}{thought}"),
        usage=_record(usage),
        model=label(reply.get("model")),
        provider_id=label(reply.get("id")),
    )
    error = _error(choice) or _error(reply)
    if finish_reason.lower() in BROKEN_OFF or (error and completion.outcome == "ok"):
        raise Unfinished(completion, error)
    return completion


def tokens_of(usage: Any, name: str) -> int:
    """A count of a usage record; 0 if it is missing or cannot be one."""
    count = usage.get(name) if isinstance(usage, Mapping) else None
    if isinstance(count, bool) or not isinstance(count, int | float) or not 0 <= count <= MOST_TOKENS:
        return 0
    return int(count)


def label(value: Any) -> str:
    """A name or an id in one short line; empty for what can be none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return words(value, LABEL)


def words(message: Any, most: int = 300) -> str:
    """What a provider or a library says, in one line of at most so many characters, without any secret of ours."""
    return encodable(" ".join(redacted(str(message)).split())[:most])


@dataclass
class _Read:
    """The parts of a message that were read so far. `unknown` says which could not be."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    unknown: str = ""

    def content(self, value: Any, kind: str = "text", within: bool = False) -> None:
        """Read text, a part, or a list of them; `within` a list, an object is a part and no answer."""
        if isinstance(value, list):
            for part in value:
                self.content(part, kind, within=True)
        elif isinstance(value, Mapping):
            self._object(value, kind, within)
        elif isinstance(value, str):
            {"thinking": self.thoughts, "refusal": self.refusals}.get(kind, self.texts).append(value)
        elif value is not None and kind == "text":
            self.texts.append(json.dumps(value))

    def _object(self, part: Mapping[str, Any], kind: str, within: bool) -> None:
        named = label(part.get("type"))
        inside = next((part[name] for name in INSIDE if part.get(name) is not None), None)
        if named in PARTS or (not named and len(part) == 1 and inside is not None):
            self.content(inside, PARTS.get(named, kind) if kind == "text" else kind, within=True)
        elif within:
            self.unknown = f" (a part of type {named[:40]!r})"
        else:  # an answer in JSON that the provider has parsed
            self.texts.append(json.dumps(part, ensure_ascii=False))


def _message(choice: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The message of a choice, wherever it is; `None` if there is none."""
    for name in ("message", "delta", "text"):
        found = choice.get(name)
        if isinstance(found, Mapping):
            return found
        if isinstance(found, str):
            return {"content": found}
    return None


def _error(there: Mapping[str, Any]) -> str:
    """What an error beside an answer says; empty without one."""
    error = there.get("error")
    if isinstance(error, Mapping):
        error = error.get("message") or error.get("code")
    return words(error) if error else ""


def _finish_reason(choice: Mapping[str, Any]) -> str:
    reason = choice.get("finish_reason")
    if isinstance(reason, Mapping):
        reason = reason.get("type", reason)
    return "" if reason is None else label(reason) if isinstance(reason, str) else words(json.dumps(reason), LABEL)


def _outcome(finish_reason: str) -> tuple[str, str]:
    """Outcome and detail for a finish reason: only those known to end a whole answer are `"ok"`."""
    known = finish_reason.lower()
    if known in WHOLE or known in BROKEN_OFF:
        return "ok", ""
    if known in CUT:
        return "truncated", ""
    if known in FILTERED:
        return "content_filter", ""
    return "unknown_finish", f"The finish reason {finish_reason!r} is not known, so the answer may not be whole."


def _record(usage: Mapping[str, Any]) -> str:
    """The usage record as JSON, without numbers that JSON does not have; empty if it is too long to be one."""
    record = json.dumps(_finite(usage)) if usage else ""
    return record if len(record) <= USAGE else ""


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(inside) for name, inside in value.items()}
    if isinstance(value, list):
        return [_finite(inside) for inside in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return encodable(value) if isinstance(value, str) else value


def _decoded(content: bytes, charset: str | None) -> str:
    try:
        return content.decode(json.detect_encoding(content))
    except UnicodeDecodeError:
        pass
    try:
        return content.decode(charset or "utf-8", "replace")
    except LookupError:
        return content.decode("utf-8", "replace")


def _joined(stream: str) -> dict[str, Any]:
    """The completion that an event stream of chunks holds; a stream without an end is no completion."""
    whole: dict[str, Any] = {}
    parts: dict[str, list[Any]] = {}
    finish_reason = None
    done = False
    for failed, data in _events(stream):
        if data == "[DONE]":
            done = True
            break
        chunk = json.loads(data)
        if failed and not chunk.get("error"):
            chunk = {"error": chunk}
        whole |= {name: value for name, value in chunk.items() if value is not None and name != "choices"}
        for choice in chunk.get("choices") or []:
            if choice.get("index") not in (None, 0):  # another answer to the same request
                continue
            message = _message(choice) or {}
            finish_reason = choice.get("finish_reason") or finish_reason
            if choice.get("error"):
                whole["error"] = choice["error"]
            for name in ("content", *THOUGHTS, "refusal"):
                if message.get(name) is not None:
                    parts.setdefault(name, []).append(message[name])
    if not done and finish_reason is None and not whole.get("error"):
        raise ValueError("the event stream has no end")
    if not parts and whole.get("error"):
        return whole
    return {**whole, "choices": [{"message": parts, "finish_reason": finish_reason}]}


def _events(stream: str) -> Iterator[tuple[bool, str]]:
    """Whether each event is named an error, and its data. Some servers leave out the empty line between events."""
    for event in re.split(r"(?:\r\n|\r|\n){2,}", stream):
        lines = re.split(r"\r\n|\r|\n", event)  # JSON may hold the other ends of lines of `splitlines`
        failed = any(line.startswith("event:") and line[6:].strip() == "error" for line in lines)
        data = [line[5:].strip() for line in lines if line.startswith("data:")]
        if any(data):
            apart = all(line.startswith(("{", "[DONE]")) for line in data)
            yield from ((failed, part) for part in (data if apart else ["\n".join(data)]))
