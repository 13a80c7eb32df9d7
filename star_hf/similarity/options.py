"""Which model makes vectors: from what a recipe, a command or a call says to an encoder."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ConfigError
from ..llm.endpoint import PRESETS, Endpoint


if TYPE_CHECKING:
    from ..llm import Budget, Journal
    from .encoders import Encoder

__all__ = ["EncoderOptions", "make_encoder"]


class EncoderOptions(BaseModel):
    """A sentence-transformers model, an ONNX graph of one, or an embeddings endpoint.

    A single string does, too: `BAAI/bge-small-en-v1.5` (an id on the Hub, or a folder), `onnx:BAAI/bge-small-en-v1.5`,
    or a provider and its model, such as `openai:text-embedding-3-small`.

    Args:
        model (`str`, *optional*): Id on the Hub or a folder; by default the packaged all-MiniLM-L6-v2.
        revision (`str`, *optional*): Revision on the Hub.
        backend (`str`, defaults to `"torch"`): `"torch"` or `"onnx"`.
        file (`str`, *optional*): The graph, for `onnx`; `onnx/model.onnx` by default.
        device (`str`, *optional*): Such as `"cuda"`; chosen by the backend by default.
        batch_size (`int`, *optional*): Texts per batch or request; the encoder's own by default.
        endpoint (`Endpoint`, *optional*): An OpenAI-compatible embeddings endpoint instead of a model here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = None
    revision: str | None = None
    backend: Literal["torch", "onnx"] = "torch"
    file: str | None = None
    device: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    endpoint: Endpoint | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_a_string(cls, data: Any) -> Any:
        if not isinstance(data, str):
            return data
        prefix, _, model = data.partition(":")
        if prefix == "onnx" and model:
            return {"model": model, "backend": "onnx"}
        return {"endpoint": {"provider": prefix, "model": model}} if model and prefix in PRESETS else {"model": data}

    @model_validator(mode="after")
    def _one_of_them(self) -> "EncoderOptions":
        here = {"model", "revision", "file", "device"} & {name for name, value in self if value is not None}
        if self.endpoint is not None and (here or self.backend != "torch"):
            raise ValueError("an `endpoint` goes with `batch_size` only; its model is named inside it")
        if self.endpoint is not None and self.endpoint.provider == "local":
            raise ValueError("the embedded model writes text and makes no vectors; leave `encoder` out for MiniLM")
        if self.backend == "onnx" and self.model is None:
            raise ValueError("`backend: onnx` needs a `model` whose folder has a graph")
        if self.backend == "torch" and self.file is not None:
            raise ValueError("`file` names the graph of `backend: onnx`")
        return self


def make_encoder(
    options: "EncoderOptions | Encoder | str | None" = None,
    journal: "Journal | None" = None,
    budget: "Budget | None" = None,
) -> "Encoder":
    """The encoder that is meant; nothing is loaded or asked yet.

    Args:
        options (`EncoderOptions`, `str` or [`Encoder`], *optional*): What is wanted; the packaged all-MiniLM-L6-v2 by
            default. An encoder is handed back as it is.
        journal, budget (*optional*): Where an endpoint's costs are written, and what it may cost.

    Raises:
        ConfigError: If the options do not go together.
    """
    if options is not None and not isinstance(options, str | EncoderOptions):
        return options
    try:
        options = EncoderOptions.model_validate(options or {})
    except ValidationError as error:
        raise ConfigError(f"encoder: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
    size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    if options.endpoint is not None:
        from ..llm.embeddings import EndpointEncoder

        return EndpointEncoder(options.endpoint, journal=journal, budget=budget, **size)
    here = {"revision": options.revision, "device": options.device, **size}
    if options.backend == "onnx":
        from .onnx import OnnxEncoder

        return OnnxEncoder(str(options.model), **here, **({} if options.file is None else {"file": options.file}))
    from .encoders import SentenceEncoder

    return SentenceEncoder(options.model, **here)
