"""The model under evaluation, behind a server. [`~star_hf.evaluation.generation.in_process`] has the other kind."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from ...errors import ConfigError, IncompleteRunError
from ...llm import Completion, Endpoint, Request


__all__ = ["Keep", "Keyed", "Model", "Sampling", "Served", "probe"]

Keyed = tuple[str, Request]
Keep = Callable[[Sequence[tuple[str, Completion]]], None]

WITHOUT_PENALTY = ("openai", "azure")
"""Providers whose API refuses a repetition penalty."""
CONTINUING = ("vllm", "sglang")
"""Providers whose servers go on with an assistant's message when told to."""


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn.

    Attributes:
        temperature (`float`): 0 takes the likeliest token.
        top_p (`float`): Share of probability that is sampled from.
        repetition_penalty (`float`): 1 leaves repeated tokens alone.
        max_tokens (`int`): Tokens of an answer, its thought included.
        seed (`int`): Samples of the same item differ by their index.
        samples (`int`): Answers per item.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    max_tokens: int = 8_000
    seed: int = 0
    samples: int = 1


class Model(Protocol):
    """What `generate` needs of a model.

    Attributes:
        name (`str`): For people.
        revision (`str` or `None`): Commit on the Hub, where it comes from there.
        fingerprint (`str`): SHA-256 that changes with the weights.
    """

    name: str
    revision: str | None

    @property
    def fingerprint(self) -> str: ...

    def probe(self) -> None:
        """Raise an error if the model cannot answer."""
        ...

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """What beside the request can change an answer; part of every request key."""
        ...

    def cost(self, completion: Completion) -> float | None:
        """Dollars of an answer; `None` where no price is known."""
        ...

    def complete(self, requests: Sequence[Keyed], sampling: Sampling, done: Callable[[str], bool], keep: Keep) -> str:
        """Answer the requests that are not `done`, handing what is finished to `keep` at once.

        Returns:
            `str`: Why requests stayed unanswered; empty where none did.
        """
        ...


class Served:
    """A model behind an OpenAI-compatible endpoint.

    A server's name says nothing about its weights. The fingerprint is that of the endpoint's identity and, where
    `/v1/models` names it (vLLM), of the path or commit that the server loaded; `given` replaces the latter.

    Args:
        endpoint (`Endpoint`): Whom to ask. What it says of sampling is replaced by the evaluation's.
        given (`str`, *optional*): The user's own mark for the weights, changed when they change.
    """

    def __init__(self, endpoint: Endpoint, given: str | None = None):
        self.endpoint = endpoint
        self.name = endpoint.model
        self.revision: str | None = None
        self._given = given
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of where the model is, what it is called and which weights its server says it loaded."""
        if self._fingerprint is None:
            loaded = self._given or _loaded_weights(self.endpoint)
            parts = {"at": self.endpoint.name or self.endpoint.url, "model": self.endpoint.model, "weights": loaded}
            self._fingerprint = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return self._fingerprint

    def probe(self) -> None:
        """Ask one short question.

        Raises:
            ConfigError: If key, model, URL or a sampling parameter are refused.
            IncompleteRunError: If nothing answers.
        """
        probe(self.endpoint)

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """The endpoint's identity with this sampling, and the fingerprint."""
        return {**self._sampled(sampling).identity(), "weights": self.fingerprint}

    def cost(self, completion: Completion) -> float | None:
        """By the endpoint's price."""
        return self.endpoint.cost(completion.prompt_tokens, completion.completion_tokens)

    def complete(self, requests: Sequence[Keyed], sampling: Sampling, done: Callable[[str], bool], keep: Keep) -> str:
        """Answer what is open, `concurrency` at a time."""
        from ...llm.http.pool import drain

        endpoint = self._sampled(sampling)
        if any(request.messages[-1]["role"] == "assistant" for _, request in requests):
            endpoint = _continuing(endpoint)
        open_ = ((key, request) for key, request in requests if not done(key))
        failures = drain(endpoint, open_, lambda key, completion: keep([(key, completion)]))
        return failures[-1] if failures else ""

    def _sampled(self, sampling: Sampling) -> Endpoint:
        extra = dict(self.endpoint.extra_body)
        if sampling.repetition_penalty != 1.0:
            if self.endpoint.provider in WITHOUT_PENALTY:
                raise ConfigError(
                    f"{self.endpoint.provider} takes no repetition penalty, which this profile asks for.",
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


def probe(endpoint: Endpoint) -> None:
    """Ask an endpoint one short question, so that a dead one ends a run before its first prompt.

    Raises:
        ConfigError: If it refuses the key, the model or the request.
        IncompleteRunError: If it does not answer.
    """
    from ...llm.http.pool import drain

    quick = endpoint.model_copy(update={"max_tokens": 16, "max_retries": 1, "concurrency": 1})
    answers: list[Completion] = []
    request = Request([{"role": "user", "content": "Say OK."}])
    failures = drain(quick, iter([("probe", request)]), lambda key, completion: answers.append(completion))
    if failures:
        raise IncompleteRunError(
            f"{endpoint.model!r} does not answer: {failures[-1]}",
            "Nothing was asked yet. Start the server, or check `base_url`, then run the same command again.",
        )
    if answers[0].outcome == "invalid_request":
        raise ConfigError(
            f"{endpoint.url} refuses a plain request to {endpoint.model!r}: {answers[0].detail}",
            "Check the model's name and `extra_body`.",
        )


def _continuing(endpoint: Endpoint) -> Endpoint:
    """The endpoint that goes on with an assistant's message instead of answering it."""
    if endpoint.provider not in CONTINUING:
        raise ConfigError(
            f"{endpoint.provider} cannot be made to go on with a prefilled answer.",
            f"Prefill a model in process, or one served by {' or '.join(CONTINUING)}.",
        )
    extra = {**endpoint.extra_body, "continue_final_message": True, "add_generation_prompt": False}
    return endpoint.model_copy(update={"extra_body": extra})


def _loaded_weights(endpoint: Endpoint) -> str | None:
    """What `/v1/models` says the served name was loaded from, where it says so.

    Raises:
        IncompleteRunError: If the server is not there.
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
