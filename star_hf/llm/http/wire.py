"""What is sent to an OpenAI-compatible API: addresses, headers and request bodies."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ... import __version__
from ..endpoint import Endpoint
from ..types import Completion, Request
from .replies import completion_of


__all__ = ["AZURE_VERSION", "CHAT", "Api", "address", "headers", "parameters", "structured"]

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
    return {"User-Agent": f"star_hf/{__version__}", "Accept-Encoding": "gzip, deflate", **who}


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
    schema = _enforceable(schema)
    match mode:
        case "json_schema":
            strict = {"name": "answer", "strict": True, "schema": schema}
            return {"response_format": {"type": "json_schema", "json_schema": strict}}
        case "json_object":
            return {"response_format": {"type": "json_object"}}
        case "structured_outputs":
            return {"structured_outputs": {"json": schema}}
        case "guided_json":
            return {"guided_json": schema}
    return {}


CHAT = Api("chat completion", "chat/completions", parameters, completion_of, repeats_empty=True)


def _enforceable(schema: Any) -> Any:
    """The schema without `uniqueItems`, which OpenAI's strict mode and vLLM's decoders refuse; annotators check it
    themselves."""
    if isinstance(schema, dict):
        return {key: _enforceable(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_enforceable(item) for item in schema] if isinstance(schema, list) else schema
