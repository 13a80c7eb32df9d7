"""The model under evaluation behind an endpoint, a server or a GGUF file; for other weights see `in_process.py`."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol

import httpx
from pydantic import Field

from ...errors import ConfigError, IncompleteRunError
from ...llm import Completion, Endpoint, Journal, Request
from ...llm.asking import provider_of
from ...llm.embedded.weights import sha256
from ...llm.types import Keyed, Provider
from ...utils.files import digest
from ...utils.options import Strict


__all__ = ["NO_SYSTEM", "Model", "Sampling", "Served"]

WITHOUT_PENALTY = ("openai", "azure")
"""Providers that refuse a repetition penalty."""
CONTINUING = ("vllm", "sglang", "local")
"""Providers that can continue an assistant's message."""
NO_SYSTEM = (
    "Its chat template has no place for a system prompt. Serve or load it with a template that has one (for vLLM "
    "`--chat-template FILE`), or evaluate it without a system prompt."
)


class Sampling(Strict):
    """How answers are sampled: at temperature 0 the most likely token is taken, and 1 means no repetition penalty.

    `max_tokens` includes the reasoning. Samples of the same item have the same seed and differ by their index.
    """

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    max_tokens: int = Field(default=8_000, gt=0)
    seed: int = 0
    samples: int = Field(default=1, gt=0)


class Model(Protocol):
    """What `generate` needs of a model.

    Attributes:
        name (`str`): Its name, for people.
        revision (`str` or `None`): Commit on the Hub, if it is from there.
        fingerprint (`str`): SHA-256 that changes with the weights.
    """

    name: str
    revision: str | None

    @property
    def fingerprint(self) -> str: ...

    def probe(self, system: str | None = None) -> None:
        """Raise an error if the model cannot answer, or cannot take a system prompt such as this one."""
        ...

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """What besides the request can change an answer; part of every request key."""
        ...

    def provider(self, requests: Sequence[Keyed], sampling: Sampling, journal: Journal) -> Endpoint | Provider:
        """Who answers: an endpoint, or a provider in this process.

        `requests` are all requests, including those that the journal answers already.
        """
        ...


class Served:
    """A model behind an endpoint: an OpenAI-compatible server, or a GGUF file (`provider: local`).

    A file's fingerprint is its SHA-256. A server's name does not identify its weights: the fingerprint is that of the
    endpoint's identity and, if `/v1/models` reports it (vLLM), of the path or commit that the server loaded; `given`
    replaces the latter.

    Args:
        endpoint (`Endpoint`): Where to ask. The evaluation's sampling parameters replace its own.
        given (`str`, *optional*): The user's own mark for the weights, to change when they change.
    """

    def __init__(self, endpoint: Endpoint, given: str | None = None):
        self.endpoint = endpoint
        self.name = endpoint.model
        self.revision: str | None = None
        self._given = given

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the file; of a server's model its address, its name, and the weights that the server reports."""
        if self.endpoint.provider == "local":
            return sha256(self.endpoint.model)
        return digest({"at": self.endpoint.place, "model": self.endpoint.model, "weights": self._weights})

    @property
    def by_name_alone(self) -> bool:
        """Whether a server of the user's tells its weights by their name alone: others under it look the same."""
        return self.endpoint.provider not in ("local", *WITHOUT_PENALTY) and self._weights is None

    @cached_property
    def _weights(self) -> str | None:
        if self.endpoint.serve:
            return self._given or self.endpoint.place  # it would be started only to say the same
        return self._given or _loaded_weights(self.endpoint)

    def probe(self, system: str | None = None) -> None:
        """Ask one short question, so that a dead endpoint ends a run before its first prompt.

        With a system prompt it is asked twice, with and without, since some chat templates refuse a system prompt and
        some leave it out.
        """
        quick = self.endpoint.model_copy(update={"max_tokens": 16, "max_retries": 1, "concurrency": 2})
        answers: dict[str, Completion] = {}
        question = {"role": "user", "content": "Say OK."}
        requests = [("probe", Request([question]))]
        if system:
            requests.append(("system", Request([{"role": "system", "content": system}, question])))
        failures = provider_of(quick).complete(iter(requests), answers.__setitem__)
        if failures:
            raise IncompleteRunError(
                f"{quick.model!r} does not answer: {failures[-1]}",
                "No prompt was sent yet. Start the server, or check `base_url`, then run the same command again.",
            )
        plain, prompted = answers["probe"], answers.get("system")
        if plain.outcome == "invalid_request":
            raise ConfigError(
                f"{quick.model!r} refuses a plain request: {plain.detail}",
                "Check the model's name and `extra_body`.",
            )
        if prompted is None:
            return
        if prompted.outcome == "invalid_request":
            raise ConfigError(f"{quick.model!r} refuses the system prompt: {prompted.detail}", NO_SYSTEM)
        if plain.usage and plain.prompt_tokens == prompted.prompt_tokens > 0:
            raise ConfigError(
                f"{quick.model!r} leaves the system prompt out: it counts {plain.prompt_tokens} prompt tokens with it "
                "and without it.",
                NO_SYSTEM,
            )

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """The endpoint's identity with this sampling, and the fingerprint."""
        return {**self._sampled(sampling).identity(), "weights": self.fingerprint}

    def provider(self, requests: Sequence[Keyed], sampling: Sampling, journal: Journal) -> Endpoint:
        """The endpoint with this sampling, which continues answers if the requests have prefilled ones."""
        endpoint = self._sampled(sampling)
        prefilled = any(request.messages[-1]["role"] == "assistant" for _, request in requests)
        return _continuing(endpoint) if prefilled else endpoint

    def _sampled(self, sampling: Sampling) -> Endpoint:
        extra = dict(self.endpoint.extra_body)
        if sampling.repetition_penalty != 1.0:
            if self.endpoint.provider in WITHOUT_PENALTY:
                raise ConfigError(
                    f"{self.endpoint.provider} supports no repetition penalty, but this profile sets one.",
                    "Use `--profile recommended`, or a profile of your own with `repetition_penalty: 1.0`.",
                )
            extra["repetition_penalty"] = sampling.repetition_penalty
        return self.endpoint.model_copy(
            update={
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "max_tokens": sampling.max_tokens,
                "seed": sampling.seed,
                "extra_body": extra,
            }
        )


def _continuing(endpoint: Endpoint) -> Endpoint:
    """The endpoint, told to continue an assistant's message instead of answering it."""
    if endpoint.provider not in CONTINUING:
        raise ConfigError(
            f"{endpoint.provider} cannot continue a prefilled answer.",
            f"Use a model in this process, or one served by {' or '.join(CONTINUING)}.",
        )
    if endpoint.provider == "local":
        return endpoint  # it always goes on
    extra = {**endpoint.extra_body, "continue_final_message": True, "add_generation_prompt": False}
    return endpoint.model_copy(update={"extra_body": extra})


def _loaded_weights(endpoint: Endpoint) -> str | None:
    """What the served name was loaded from according to `/v1/models`; `None` if it does not say.

    Raises:
        IncompleteRunError: If the server cannot be reached.
    """
    key = endpoint.api_key()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(f"{endpoint.url.rstrip('/')}/models", headers=headers, timeout=30)
        served = {entry.get("id"): entry for entry in reply.json()["data"]}
    except httpx.TransportError as error:
        raise IncompleteRunError(
            f"{endpoint.url} cannot be reached: {type(error).__name__}: {error}",
            "Start the server, or check `base_url`, then run the same command again.",
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    root = served.get(endpoint.model, {}).get("root")
    return root if isinstance(root, str) else None
