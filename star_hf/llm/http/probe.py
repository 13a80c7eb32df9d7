"""Find out what an endpoint can do, with a few requests of one line each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai

from ...errors import ConfigError
from ...utils.text import split_reasoning
from ..endpoint import PRESETS, Endpoint
from ..parsing import parse_json
from ..types import Completion, Request
from .replies import body_of, completion_of, words
from .sdk import provider_words, refused, sync_client
from .wire import parameters, structured


__all__ = ["MODES", "ProbeFinding", "configured_presets", "probe"]

MODES = ("json_schema", "structured_outputs", "guided_json", "json_object")
"""Ways to bind an answer to a schema, the strictest first; `prompt` works everywhere."""

HUES = ["crimson", "teal", "ochre"]
SCHEMA = {
    "type": "object",
    "properties": {"hue": {"type": "string", "enum": HUES}},
    "required": ["hue"],
    "additionalProperties": False,
}
PLAIN = Request([{"role": "user", "content": "Reply with the one word: ready"}])
# Contains the word JSON, which providers require with `json_object`, but asks for none: only an endpoint that enforces
# the schema returns an object.
COLOUR = [{"role": "user", "content": "Name a colour in one plain word. Do not write JSON."}]
DEFAULT_MODELS = {"openai": "gpt-4o-mini", "deepseek": "deepseek-chat", "hf": "deepseek-ai/DeepSeek-R1"}


@dataclass
class ProbeFinding:
    """What one endpoint can do.

    Attributes:
        problem (`str`, *optional*): Why it cannot be used, and what to check.
        listed (`bool` or `None`): Whether the provider lists the model; `None` if it lists no models.
        modes (`dict[str, bool]`): Which of [`MODES`] bind an answer to a schema, each of those given included.
        refused (`dict[str, str]`): What the provider said to a given schema, for the modes that bind only others.
        reasoning (`str`): Where the reasoning is: a field's name, `"inline <think>"`, or `"none"`.
        limits (`dict[str, str]`): Rate-limit headers, as sent.
    """

    endpoint: Endpoint
    problem: str | None = None
    listed: bool | None = None
    latency_s: float | None = None
    modes: dict[str, bool] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    reasoning: str = "none"
    logprobs: bool = False
    limits: dict[str, str] = field(default_factory=dict)
    batches: bool = False

    @property
    def keeps_schema(self) -> bool:
        """Whether the endpoint's configured way to bind an answer to a schema works."""
        mode = self.endpoint.structured_output
        return mode == "prompt" or self.modes.get(mode, False)

    @property
    def advice(self) -> list[str]:
        """Lines for the recipe that suit the endpoint better than its current configuration."""
        if self.problem:
            return []
        lines = []
        best = next((mode for mode in MODES if self.modes.get(mode)), "prompt")
        mode = self.endpoint.structured_output
        if not self.keeps_schema or (mode in ("prompt", "json_object") and best not in ("prompt", mode)):
            lines.append(f"structured: {best}")
        if self.batches and self.endpoint.batch is None:
            lines.append("batch: true")
        if self.endpoint.rate is None and self.endpoint.provider not in ("local", "vllm", "sglang"):
            lines.append("price: {input: ..., output: ...}")
        return lines


def probe(endpoint: Endpoint, schemas: Sequence[dict[str, Any]] = ()) -> ProbeFinding:
    """Ask an endpoint what it can do: one plain request, and one for each way to bind an answer to a schema.

    With `schemas`, those that the endpoint is going to be asked with, each is tried in each way that works: a server
    may know a way and refuse a keyword. Probe the members of a pool one by one.
    """
    finding = ProbeFinding(endpoint)
    try:
        if endpoint.provider == "local":
            from ..embedded.model import load

            load(endpoint.model)
            finding.modes = dict.fromkeys(MODES, True)
            return finding
        with sync_client(endpoint, timeout=min(endpoint.timeout_s, 120), max_retries=1) as client:
            _ask(client, finding, schemas)
    except ConfigError as error:
        finding.problem = str(error).replace("\n", " ")
    except openai.APIStatusError as error:
        finding.problem = f"{endpoint.url} answered {error.status_code}: {provider_words(error)}"
    except (openai.APIError, OSError) as error:
        cause = error.__cause__ or error
        finding.problem = f"{endpoint.url} cannot be reached ({type(cause).__name__}: {words(cause)})"
    except (ValueError, LookupError, TypeError, AttributeError):
        finding.problem = f"{endpoint.url} answers, but not with a chat completion. Does `base_url` end in /v1?"
    return finding


def configured_presets(model: str | None = None) -> list[Endpoint]:
    """An endpoint for each provider whose key is in the environment, with a cheap or common model of each."""
    endpoints = []
    for provider, preset in PRESETS.items():
        name = model or DEFAULT_MODELS.get(provider)
        if preset.api_key_env is None or name is None:
            continue
        endpoint = Endpoint(provider=provider, model=name)
        try:
            endpoint.check()
        except ConfigError:
            continue
        endpoints.append(endpoint)
    return endpoints


def _ask(client: openai.OpenAI, finding: ProbeFinding, schemas: Sequence[dict[str, Any]]) -> None:
    endpoint = finding.endpoint
    finding.listed = _listed(client, endpoint.model)
    finding.batches = _has_batches(client)
    body = parameters(endpoint, PLAIN)
    started = time.monotonic()
    try:
        reply, headers = _create(client, endpoint, {**body, "logprobs": True})
    except openai.BadRequestError:  # some models refuse requests for log probabilities
        started = time.monotonic()
        reply, headers = _create(client, endpoint, body)
    finding.latency_s = time.monotonic() - started
    finding.limits = {name: words(value) for name, value in headers.items() if name.startswith("x-ratelimit-limit-")}
    finding.logprobs = bool((reply["choices"][0].get("logprobs") or {}).get("content"))
    finding.reasoning = _reasoning(reply)
    for mode in MODES:
        finding.modes[mode] = _keeps(client, endpoint, mode)
        if finding.modes[mode] and mode != "json_object":  # which sends no schema
            problem = next(filter(None, (_problem(client, endpoint, mode, schema) for schema in schemas)), None)
            if problem:
                finding.modes[mode], finding.refused[mode] = False, problem


def _create(
    client: openai.OpenAI, endpoint: Endpoint, body: dict[str, Any]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    try:
        reply = client.chat.completions.with_raw_response.create(model=endpoint.model, messages=[], extra_body=body)
    except openai.APIStatusError as error:
        raise refused(endpoint, error) or error from None
    return body_of(reply.content), reply.headers


def _listed(client: openai.OpenAI, model: str) -> bool | None:
    try:
        names = [listed.id for listed in client.models.list()]
    except (openai.APIStatusError, ValueError, TypeError, AttributeError):
        return None
    return model.split(":")[0] in names or model in names if names else None


def _has_batches(client: openai.OpenAI) -> bool:
    try:
        return client.batches.with_raw_response.list(limit=1).http_response.status_code == 200
    except openai.APIError:
        return False


def _reasoning(reply: Mapping[str, Any]) -> str:
    message = reply["choices"][0]["message"]
    field_name = next((name for name in ("reasoning_content", "reasoning") if message.get(name)), None)
    inline = split_reasoning(completion_of(reply).text).thought
    return field_name or ("inline <think>" if inline else "none")


def _keeps(client: openai.OpenAI, endpoint: Endpoint, mode: str) -> bool:
    """Whether an answer follows a schema that its prompt does not mention."""
    try:
        answer = parse_json(_bound(client, endpoint, mode, SCHEMA).text)
    except (ConfigError, openai.APIStatusError, ValueError, LookupError, TypeError, AttributeError):
        return False
    if not isinstance(answer, dict):
        return False
    return mode == "json_object" or (set(answer) == {"hue"} and answer["hue"] in HUES)


def _problem(client: openai.OpenAI, endpoint: Endpoint, mode: str, schema: dict[str, Any]) -> str | None:
    """Why this very schema cannot be asked for; `None` if it can. An answer that is cut may still follow it."""
    try:
        completion = _bound(client, endpoint, mode, schema)
    except openai.APIStatusError as error:
        return f"{error.status_code}: {provider_words(error)}"
    except (ConfigError, ValueError, LookupError, TypeError, AttributeError) as error:
        return words(error)
    answer = parse_json(completion.text)
    follows = isinstance(answer, dict) and set(schema["required"]) <= set(answer)
    if follows or completion.outcome == "truncated":
        return None
    return f"the answer is no object with {', '.join(schema['required'])}"


def _bound(client: openai.OpenAI, endpoint: Endpoint, mode: str, schema: dict[str, Any]) -> Completion:
    """What the model says to a question that has nothing to do with the schema."""
    body = {**parameters(endpoint, Request(COLOUR)), **structured(mode, schema)}
    return completion_of(_create(client, endpoint, body)[0])
