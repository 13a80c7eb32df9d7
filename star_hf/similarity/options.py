"""Which model encodes texts: from the options of a recipe, a command or a call to an encoder."""

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError, model_validator

from ..errors import ConfigError
from ..llm.endpoint import PRESETS, Endpoint
from ..utils.options import Strict


if TYPE_CHECKING:
    from ..llm import Budget, Journal
    from .encoders import Encoder

__all__ = ["EncoderOptions", "make_encoder"]


class EncoderOptions(Strict):
    """A sentence-transformers model, its ONNX graph, or an embeddings endpoint.

    Can also be a string: `BAAI/bge-small-en-v1.5` (a Hub id or folder), `onnx:BAAI/bge-small-en-v1.5`, or a provider
    and its model, such as `openai:text-embedding-3-small`.

    Args:
        model (`str`, *optional*): Hub id or folder; by default the packaged all-MiniLM-L6-v2.
        revision (`str`, *optional*): Revision on the Hub.
        backend (`str`, defaults to `"torch"`): `"torch"` or `"onnx"`.
        file (`str`, *optional*): The graph for `onnx`; `onnx/model.onnx` by default.
        device (`str`, *optional*): Such as `"cuda"`; chosen by the backend by default.
        batch_size (`int`, *optional*): Texts per batch or request; the encoder's default by default.
        languages (`list[str]`, *optional*): Languages and scripts in which the model is used without a measurement
            that it can tell texts apart, such as `[de, Thai]`, or `["*"]` for all. By default MiniLM's is English.
        endpoint (`Endpoint`, *optional*): An OpenAI-compatible embeddings endpoint instead of a local model.
    """

    model: str | None = None
    revision: str | None = None
    backend: Literal["torch", "onnx"] = "torch"
    file: str | None = None
    device: str | None = None
    batch_size: int | None = Field(default=None, ge=1)
    languages: list[str] | None = None
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
            raise ValueError("an `endpoint` goes with `batch_size` and `languages` only; set its model inside it")
        if self.endpoint is not None and self.endpoint.provider == "local":
            raise ValueError("the embedded model writes text and makes no vectors; omit `encoder` to use MiniLM")
        if self.backend == "onnx" and self.model is None:
            raise ValueError("`backend: onnx` needs a `model` with an ONNX graph")
        if self.backend == "torch" and self.file is not None:
            raise ValueError("`file` needs `backend: onnx`")
        return self


def make_encoder(
    options: "EncoderOptions | Encoder | str | None" = None,
    journal: "Journal | None" = None,
    budget: "Budget | None" = None,
) -> "Encoder":
    """Make an encoder. It loads its model when the first text is encoded.

    Args:
        options ([`EncoderOptions`], `str` or [`Encoder`], *optional*): The model; the packaged all-MiniLM-L6-v2 by
            default. An encoder is returned as it is.
        journal, budget (*optional*): Where an endpoint's costs are recorded, and what it may cost.

    Raises:
        [`ConfigError`]: If the options do not go together.
    """
    if options is not None and not isinstance(options, str | EncoderOptions):
        return options
    try:
        options = EncoderOptions.model_validate(options or {})
    except ValidationError as error:
        raise ConfigError(f"encoder: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from None
    size = {} if options.batch_size is None else {"batch_size": options.batch_size}
    size |= {"languages": options.languages}
    if options.endpoint is not None:
        from ..llm.embeddings import EndpointEncoder

        return EndpointEncoder(options.endpoint, journal=journal, budget=budget, **size)
    here = {"revision": options.revision, "device": options.device, **size}
    if options.backend == "onnx":
        from .onnx import OnnxEncoder

        return OnnxEncoder(str(options.model), **here, **({} if options.file is None else {"file": options.file}))
    from .encoders import SentenceEncoder

    return SentenceEncoder(options.model, **here)
