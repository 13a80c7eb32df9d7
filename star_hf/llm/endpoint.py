"""The configuration of a model call: provider, model, parameters, limits."""

import os
import re
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ..errors import ConfigError
from ..utils.options import Strict
from ..utils.secrets import remember
from . import serving
from .cost.prices import Price, list_price
from .serving import Serve
from .trust import check_host


__all__ = ["PRESETS", "Batch", "Endpoint", "Member", "Preset"]

Structured = Literal["json_schema", "json_object", "structured_outputs", "guided_json", "prompt"]
ProviderName = Literal["openai", "azure", "hf", "deepseek", "nvidia", "vllm", "sglang", "local"]


class Preset(NamedTuple):
    """The defaults of a provider: its URL (`None` if the user must give it), the environment variable of its key
    (`None` if it needs no key), how it binds an answer to a JSON schema, and whether it has a Batch API."""

    base_url: str | None
    api_key_env: str | None
    structured: Structured
    batches: bool = False


PRESETS: dict[str, Preset] = {
    "openai": Preset("https://api.openai.com/v1", "OPENAI_API_KEY", "json_schema", batches=True),
    "azure": Preset(None, "AZURE_OPENAI_API_KEY", "json_schema", batches=True),
    "hf": Preset("https://router.huggingface.co/v1", "HF_TOKEN", "prompt"),
    "deepseek": Preset("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY", "json_object"),
    "nvidia": Preset("https://integrate.api.nvidia.com/v1", "NVIDIA_API_KEY", "prompt"),
    "vllm": Preset("http://localhost:8000/v1", None, "json_schema"),
    "sglang": Preset("http://localhost:30000/v1", None, "json_schema"),
    "local": Preset(None, None, "json_schema"),
}

AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


class Batch(Strict):
    """Options for a provider's Batch API; see [`star_hf.llm.batch.provider`].

    Args:
        price_factor (`float`, defaults to 0.5): The price of a token in a batch, as a share of its usual price.
        at_least (`int`, defaults to 100): Fewer requests than this are asked live, since a batch may take a day.
        max_requests (`int`, defaults to 50000), max_bytes (`int`, defaults to 200 MB): Largest input file; the
            defaults are OpenAI's limits.
        window (`str`, defaults to `"24h"`): The time that the provider may take.
        poll_s (`float`, defaults to 60): Maximum seconds between two status requests; the first ones follow faster.
    """

    price_factor: float = Field(default=0.5, ge=0, le=1)
    at_least: int = Field(default=100, ge=1)
    max_requests: int = Field(default=50_000, ge=1)
    max_bytes: int = Field(default=200_000_000, ge=1)
    window: str = "24h"
    poll_s: float = Field(default=60, gt=0)


def without_secret(url: str | None) -> str | None:
    """The URL, which must be complete and contain no key."""
    if url is None:
        return None
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            "a URL must not carry a user name or password, nor a query; put the key in an environment variable"
        )
    if parts.scheme not in ("http", "https"):
        raise ValueError("a URL must begin with http:// or https://")
    return url


def variable_name(name: str | None) -> str | None:
    """The name of an environment variable. A key in its place would be shown and stored wherever the name is."""
    if name is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise ValueError("must be the name of an environment variable, such as MY_API_KEY, not the key itself")
    return name


class Member(Strict):
    """One key or server of a pool. Unset fields are inherited from the endpoint."""

    base_url: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    model: str | None = None
    concurrency: int | None = Field(default=None, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)

    _whole_url = field_validator("base_url")(without_secret)
    _no_key = field_validator("api_key_env")(variable_name)


class Endpoint(Strict):
    """One model behind one OpenAI-compatible API, or the embedded model (`provider: local`).

    The key itself is never part of an endpoint: `api_key_env` names its environment variable.

    Args:
        model (`str`): The model's name at the provider; for Azure the deployment's name.
        provider (`str`, defaults to `"openai"`): A preset of [`PRESETS`].
        base_url (`str`, *optional*): Replaces the preset's.
        name (`str`, *optional*): Replaces `base_url` in request keys, so that a server keeps its answers when it
            moves to another host.
        api_key_env (`str`, *optional*): Replaces the preset's environment variable.
        api_version (`str`, *optional*): Azure's API version.
        temperature, top_p, max_tokens, seed (*optional*): Sampling parameters; the provider's defaults if `None`. The
            n-th sample of a request is sent with the seed plus n.
        structured (`str`, *optional*): `"json_schema"`, `"json_object"`, vLLM's own `"structured_outputs"` (before
            0.12 `"guided_json"`), or `"prompt"`; the preset's when `None`.
        extra_body (`dict`, *optional*): Further fields of the request.
        price (`Price`, *optional*): Dollars per million tokens. By default the provider's list price in
            `prices.yaml`; costs are not counted if there is none.
        concurrency (`int`, defaults to 32): Maximum requests in flight; fewer while the provider is overloaded.
        requests_per_minute, tokens_per_minute (`float`, *optional*): Maximum pace. The limits that the provider
            reports apply in any case.
        timeout_s (`float`, defaults to 600): Seconds from sending a request to the end of its answer.
        max_retries (`int`, defaults to 6): Retries of a transient failure, with exponential backoff and `Retry-After`.
        deadline_s (`float`, *optional*): Seconds that a stage may send requests. After that the run ends as
            incomplete and keeps all its answers.
        batch (`Batch` or `bool`, *optional*): Ask through the provider's Batch API.
        pool (`tuple[Member, ...]`, *optional*): Several keys or servers that share the requests. Request keys have
            the endpoint's own `name` or URL, whichever member answers.
        serve (`Serve` or `bool`, *optional*): Start `vllm serve` when the first request is sent, and end it with this
            process.
    """

    model: str
    provider: ProviderName = "openai"
    base_url: str | None = None
    name: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, gt=0)
    seed: int | None = None
    structured: Structured | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)
    price: Price | None = None
    concurrency: int = Field(default=32, ge=1)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    timeout_s: float = Field(default=600, gt=0)
    max_retries: int = Field(default=6, ge=0)
    deadline_s: float | None = Field(default=None, gt=0)
    batch: Batch | None = None
    pool: tuple[Member, ...] = ()
    serve: Serve | None = None

    _whole_url = field_validator("base_url")(without_secret)
    _no_key = field_validator("api_key_env")(variable_name)

    @field_validator("batch", mode="before")
    @classmethod
    def _plain_batch(cls, batch: Any) -> Any:
        return {True: Batch(), False: None}[batch] if isinstance(batch, bool) else batch

    @field_validator("serve", mode="before")
    @classmethod
    def _plain_serve(cls, serve: Any) -> Any:
        return {True: Serve(), False: None}[serve] if isinstance(serve, bool) else serve

    @model_validator(mode="after")
    def _served_here(self) -> "Endpoint":
        if self.serve and (self.provider != "vllm" or self.base_url or self.pool or self.api_key_env):
            raise ValueError("`serve` is for provider vllm, without `base_url`, `api_key_env` and `pool`")
        return self

    @model_validator(mode="after")
    def _pool_has_a_name(self) -> "Endpoint":
        if any(member.base_url for member in self.pool) and not (self.name or self.base_url):
            raise ValueError("a pool of several servers needs a `name`, which replaces their URLs in request keys")
        return self

    @property
    def members(self) -> "tuple[Endpoint, ...]":
        """The endpoints that share the requests: those of the pool, or this one alone."""
        if not self.pool:
            return (self,)
        return tuple(self.model_copy(update={"pool": (), **m.model_dump(exclude_none=True)}) for m in self.pool)

    @property
    def preset(self) -> Preset:
        """The provider's defaults."""
        return PRESETS[self.provider]

    @property
    def place(self) -> str:
        """The endpoint's place in request keys: its name, else its address; of a server to start, its weights."""
        if self.serve and not self.name:
            return " ".join(["vllm serve", self.serve.model or self.model, *self.serve.args])
        return self.name or self.url

    @property
    def url(self) -> str:
        """Root of the API; a `ConfigError` if neither the endpoint nor its provider has one. Starts the server of
        `serve` if it does not run yet."""
        if self.serve:
            return serving.running(self.serve, self.model).url
        url = self.base_url or self.preset.base_url
        if url is None and self.provider == "azure":
            url = os.environ.get("AZURE_OPENAI_ENDPOINT")
        if url is None:
            raise ConfigError(
                f"Model {self.model!r} has no `base_url`, and provider {self.provider!r} has no default.",
                "Set `base_url` in the configuration"
                + (" or AZURE_OPENAI_ENDPOINT in the environment." if self.provider == "azure" else "."),
            )
        return url

    @property
    def structured_output(self) -> Structured:
        """How an answer is bound to a JSON schema."""
        return self.structured or self.preset.structured

    @property
    def key_variable(self) -> str | None:
        """The environment variable of the key; `None` if no key is needed."""
        return self.api_key_env or self.preset.api_key_env

    def api_key(self) -> str | None:
        """The key, read from the environment at the moment it is needed (for `hf` also from `hf auth login`); a
        `ConfigError` if it is missing or invalid, or may not go to the endpoint's host."""
        if self.serve:
            return serving.running(self.serve, self.model).key
        variable = self.key_variable
        if variable is None:
            return None
        check_host(variable, self.url, self._homes(variable))
        key = os.environ.get(variable, "").strip()
        if not key and self.provider == "hf" and self.api_key_env is None:
            from huggingface_hub import get_token

            key = get_token() or ""
        if not key:
            raise ConfigError(
                f"Model {self.model!r} of provider {self.provider!r} needs a key, and ${variable} is not set.",
                f"Set {variable} in the environment"
                + (" or run `hf auth login`." if variable == "HF_TOKEN" else ", or name another with `api_key_env`."),
            )
        if not (key.isascii() and key.isprintable()):
            raise ConfigError(
                f"The key in ${variable} has a line break or another character that keys cannot have.",
                "Copy it again, without the text around it.",
            )
        remember(key)
        return key

    def _homes(self, variable: str) -> list[str | None]:
        """Hosts that may get the key of a variable: those of this provider, and of the variable's own."""
        own = [preset.base_url for preset in PRESETS.values() if preset.api_key_env == variable]
        urls = [self.preset.base_url, *own]
        if self.provider == "azure":
            urls.append(os.environ.get("AZURE_OPENAI_ENDPOINT"))
        hosts = [urlsplit(url).hostname for url in urls if url]
        return hosts + ([*AZURE] if self.provider == "azure" else [])

    def check(self) -> None:
        """Check that every member has an address and a key, without sending anything; a local model that it exists,
        and a server to start that there is vLLM."""
        if self.provider == "local":
            from .embedded import weights

            weights.locate(self.model)
            return
        if self.serve:
            serving.find(self.serve)
            return
        for member in self.members:
            _ = member.url, member.api_key()

    def identity(self) -> dict[str, Any]:
        """What can change an answer: the endpoint's part of every request key. Contains no secret."""
        sampling = self.model_dump(
            include={"model", "temperature", "top_p", "max_tokens", "seed", "extra_body"}, exclude_none=True
        )
        if self.provider != "local":
            return {"at": self.place, "structured": self.structured_output, **sampling}
        from .embedded.weights import sha256

        sampling.pop("model")  # the same file elsewhere is the same model
        return {"at": "local", "sha256": sha256(self.model), **sampling}

    @property
    def rate(self) -> Price | None:
        """The endpoint's own price, else the list price if the provider's own address is asked."""
        return self.price or (list_price(self.provider, self.model) if self.base_url is None else None)

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """Dollars for this many tokens, or `None` if no price is known."""
        rate = self.rate
        return None if rate is None else (prompt_tokens * rate.input + completion_tokens * rate.output) / 1e6
