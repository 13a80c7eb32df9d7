"""Between the engine's values and an OpenAI-compatible API: request bodies, and the meaning of replies."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ... import __version__
from ...errors import ConfigError
from ...utils.text import encodable
from ..cost.tokens import ESTIMATE, prompt_tokens
from ..endpoint import Endpoint
from ..types import Completion, Request


__all__ = [
    "AZURE_VERSION",
    "CHAT",
    "Api",
    "address",
    "completion_of",
    "error_of",
    "failure_of",
    "headers",
    "parameters",
    "problem_of",
    "refusal_of",
    "structured",
    "words",
]

AZURE_VERSION = "2024-10-21"
"""Azure's API version if an endpoint names none."""


class Api(NamedTuple):
    """A part of the API that can be asked.

    Attributes:
        name (`str`): What a reply is, for error messages.
        path (`str`): Its address below the API's root.
        body (`Callable`): Takes endpoint and request, returns the JSON to send.
        read (`Callable`): Takes a reply's JSON and its request, which is `None` if the request was sent by an earlier
            process. Raises LookupError, TypeError, ValueError or AttributeError if the reply is not valid.
        repeats_empty (`bool`): Whether a reply without text is asked for once more.
    """

    name: str
    path: str
    body: Callable[[Endpoint, Request], dict[str, Any]]
    read: Callable[[Mapping[str, Any], Request | None], Completion]
    repeats_empty: bool


def address(endpoint: Endpoint, path: str) -> str:
    """The URL of a part of the API, such as `"chat/completions"`."""
    root = endpoint.url.rstrip("/")
    if endpoint.provider != "azure":
        return f"{root}/{path}"
    version = endpoint.api_version or AZURE_VERSION
    return f"{root}/openai/deployments/{endpoint.model}/{path}?api-version={version}"


def headers(endpoint: Endpoint) -> dict[str, str]:
    """The headers of every request, which hold the key."""
    key = endpoint.api_key() or "none"
    who = {"api-key": key} if endpoint.provider == "azure" else {"Authorization": f"Bearer {key}"}
    return {"User-Agent": f"star_hf/{__version__}", **who}


def parameters(endpoint: Endpoint, request: Request) -> dict[str, Any]:
    """The body of a chat request, live or in a batch."""
    body = endpoint.model_dump(include={"model", "temperature", "top_p", "max_tokens", "seed"}, exclude_none=True)
    if endpoint.seed is not None:
        body["seed"] += request.sample  # otherwise all samples of a request would be equal
    form = {} if request.schema is None else structured(endpoint.structured_output, request.schema)
    return {**body, "messages": request.messages, **form, **endpoint.extra_body}


def structured(mode: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The fields that bind an answer to a JSON schema, for each value of `Endpoint.structured`.

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


def completion_of(reply: Mapping[str, Any], request: Request | None = None) -> Completion:
    """Read a chat completion, as an [`Api`] does.

    Where the reply has no `usage`, the tokens of the prompt and of the answer are estimated, so that it does not count
    as free.
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
        prompt_tokens=int(usage.get("prompt_tokens") or (prompt_tokens(request) if request else 0)),
        completion_tokens=int(usage.get("completion_tokens") or ESTIMATE.count(f"{text}{thought or ''}")),
        usage=json.dumps(usage) if usage else "",
        model=reply.get("model") or "",
        provider_id=reply.get("id") or "",
    )


CHAT = Api("chat completion", "chat/completions", parameters, completion_of, repeats_empty=True)


def failure_of(status: int, code: str | None, said: str) -> Completion | None:
    """The named failure of a request that would fail again; `None` if a retry may succeed."""
    if status not in (400, 413, 422):
        return None
    filtered = code == "content_filter" or "content_filter" in said
    return Completion("", outcome="content_filter" if filtered else "invalid_request", detail=said)


def problem_of(endpoint: Endpoint, content: bytes) -> tuple[str | None, str]:
    """The code and the message of a provider's error, in one short line without the key, which some repeat.

    The body of the reply, `content`, may be anything.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = content.decode("utf-8", "replace")
    error = body.get("error", body) if isinstance(body, dict) else body
    code = error.get("code") if isinstance(error, dict) else None
    said = str((error.get("message") if isinstance(error, dict) else None) or error or "an empty body")
    key = endpoint.api_key()
    return None if code is None else str(code), words(said.replace(key, "[the key]") if key else said)


def refusal_of(endpoint: Endpoint, status: int, code: str | None, said: str) -> ConfigError | None:
    """What to check if no later request can succeed; `None` if one may."""
    key = endpoint.key_variable or "the key"
    where = "Check `model` and `base_url`; a base URL usually ends in /v1."
    remedies = {
        401: f"Check that {key} holds a valid key for this provider.",
        402: f"Add credit to the account behind {key}, and run the same command again to go on.",
        403: f"Check that the account behind {key} may use this model.",
        404: where,
        405: where,
        410: "The provider no longer has this model: choose another one.",
    }
    remedy = remedies.get(402 if code == "insufficient_quota" else status)
    if remedy is None:
        return None
    return ConfigError(f"{endpoint.url} answered {status} for model {endpoint.model!r}: {said}", remedy)


def error_of(reply: Any) -> str:
    """The provider's message in the `error` of a body; empty if there is none."""
    error = reply.get("error") if isinstance(reply, Mapping) else None
    return words(error.get("message") if isinstance(error, Mapping) else error or "")


def words(message: Any) -> str:
    """The provider's message in one line of 300 characters at most."""
    return encodable(" ".join(str(message).split())[:300])


def _strict(schema: Any) -> Any:
    """The schema without `uniqueItems`, which OpenAI's strict mode refuses; annotators check it themselves."""
    if isinstance(schema, dict):
        return {key: _strict(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_strict(item) for item in schema] if isinstance(schema, list) else schema
