"""Between the engine's values and the chat completions API: the body of a request, and what a reply means."""

import json
from collections.abc import Mapping
from typing import Any

from ..text import encodable
from .endpoint import Endpoint
from .tokens import ESTIMATE
from .types import Completion, Request


__all__ = ["completion_of", "error_of", "failure_of", "parameters", "words"]


def parameters(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The body of a request, as it is sent live or in a batch."""
    body = endpoint.model_dump(include={"model", "temperature", "top_p", "max_tokens", "seed"}, exclude_none=True)
    if endpoint.seed is not None:
        body["seed"] += request.sample  # or all samples of a request would be the same one
    form = {} if request.schema is None else structured(endpoint.structured_output, request.schema)
    return {**body, "messages": request.messages, **form, **endpoint.extra_body}


def structured(mode: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The fields that keep an answer to a JSON schema, for each of `Endpoint.structured`.

    `structured_outputs` and `guided_json` are vLLM's own, https://docs.vllm.ai/en/latest/features/structured_outputs/.
    """
    match mode:
        case "json_schema":
            strict = {"name": "answer", "strict": True, "schema": _strict(schema)}
            return {"response_format": {"type": "json_schema", "json_schema": strict}}
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        case "guided_json":
            return {"guided_json": schema}
    return {}


def completion_of(reply: Mapping[str, Any], prompt_tokens: int = 0) -> Completion:
    """What a chat completion says.

    Args:
        reply (`Mapping`): The body of an answer.
        prompt_tokens (`int`, defaults to 0): What the prompt is taken to have where the reply does not say. So an
            answer without `usage` is not taken for free; its own tokens are estimated, too.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: If it is none.
    """
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    message, finish_reason = choice["message"], choice.get("finish_reason")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    outcome = {"length": "truncated", "content_filter": "content_filter"}.get(finish_reason, "ok")
    refusal, text = message.get("refusal") or "", encodable(message.get("content") or "")
    thought = encodable(reasoning) if isinstance(reasoning, str) else None
    return Completion(
        text=text,
        reasoning=thought,
        outcome="refused" if refusal else outcome,
        detail=encodable(refusal),
        finish_reason=encodable(str(finish_reason or "")),
        prompt_tokens=int(usage.get("prompt_tokens") or prompt_tokens),
        completion_tokens=int(usage.get("completion_tokens") or ESTIMATE.count(f"{text}{thought or ''}")),
        usage=json.dumps(usage) if usage else "",
        model=reply.get("model") or "",
        provider_id=reply.get("id") or "",
    )


def failure_of(status: int, code: str | None, said: str) -> Completion | None:
    """The named failure of a request that would fail again, or `None` where it may be asked again."""
    if status not in (400, 413, 422):
        return None
    filtered = code == "content_filter" or "content_filter" in said
    return Completion("", outcome="content_filter" if filtered else "invalid_request", detail=said)


def error_of(reply: Any) -> str:
    """What a provider says in the `error` of a body; empty where there is none."""
    error = reply.get("error") if isinstance(reply, Mapping) else None
    return words(error.get("message") if isinstance(error, Mapping) else error or "")


def words(message: Any) -> str:
    """The provider's own words in one short line; an error page is not repeated whole."""
    return encodable(" ".join(str(message).split())[:300])


def _strict(schema: Any) -> Any:
    """The schema without `uniqueItems`, which OpenAI's strict mode refuses; `parse` checks it anyway."""
    if isinstance(schema, dict):
        return {key: _strict(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_strict(item) for item in schema] if isinstance(schema, list) else schema
