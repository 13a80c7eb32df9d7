"""A GGUF file in memory, by OpenVINO: continuous batches, a cache of prompts' beginnings, answers bound to JSON."""

import functools
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import ConfigError, first_line
from ..types import Message
from .weights import MODEL, locate, read_header, state


__all__ = ["CACHE_GB", "EmbeddedModel", "load"]

CACHE_GB = 2
"""Memory for keys and values: 150,000 tokens of the packaged model, some 25,000 of one with 8 billion parameters."""
READS = "The runtime reads Llama, Qwen2 and Qwen3 as Q4_0, Q4_1, Q4_K_M, Q8_0 or F16. Serve other models with vLLM."


def load(model: str) -> "EmbeddedModel":
    """A model by its name (see [`~star_hf.llm.embedded.weights.locate`]).

    The last one stays in memory, in the process that loaded it: its threads do not survive a fork.
    """
    path = locate(model)
    return _loaded(path, model if model == MODEL else Path(model).name, state(path), os.getpid())


@functools.lru_cache(maxsize=1)
def _loaded(path: Path, name: str, state: tuple[int, int], process: int) -> "EmbeddedModel":
    return EmbeddedModel(path, name)


class EmbeddedModel:
    """A GGUF file in memory.

    Attributes:
        name (`str`): Its name in completions.
        window (`int`): Tokens of prompt and answer together.

    Raises:
        ConfigError: If the file is damaged, or of a kind that the runtime cannot read.
    """

    def __init__(self, path: Path, name: str):
        architecture, window = read_header(path)
        import openvino_genai as runtime

        scheduler = runtime.SchedulerConfig()
        scheduler.cache_size, scheduler.enable_prefix_caching = CACHE_GB, True
        try:
            self._pipeline: Any = runtime.ContinuousBatchingPipeline(str(path), scheduler, "CPU")
        except Exception as error:
            raise ConfigError(f"{path} ({architecture}) cannot be loaded: {_reason(error)}", READS) from error
        self._tokenizer = self._pipeline.get_tokenizer()
        self._count = 0
        self.name, self.window = name, window or 1 << 20

    def prompt(self, messages: list[Message]) -> str:
        """The conversation up to the start of the model's turn, or within it if the last message is the model's own.

        Without a chat template the messages stand one below the other.
        """
        opening = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        asked = messages[:-1] if opening else messages
        if not self._tokenizer.chat_template:
            return "\n\n".join(message["content"] for message in messages)
        try:
            return str(self._tokenizer.apply_chat_template(asked, add_generation_prompt=True)) + opening
        except Exception as error:
            raise ConfigError(
                f"The chat template of {self.name} cannot be used: {_reason(error)}",
                "Use another GGUF file of this model, or serve it with vLLM.",
            ) from error

    def encode(self, text: str) -> Any:
        """The text's tokens, `(1, tokens)`, with nothing added."""
        return self._tokenizer.encode(text, add_special_tokens=False).input_ids

    def decode(self, tokens: list[int]) -> str:
        """The tokens' text, without special tokens."""
        return str(self._tokenizer.decode(tokens))

    def start(self, prompt: Any, options: Mapping[str, Any], schema: Mapping[str, Any] | None) -> Any:
        """Add a request to the batch; returns its handle.

        Args:
            prompt (tensor): As from `encode`.
            options (`dict`): Options of the runtime's `GenerationConfig`.
            schema (`dict`, *optional*): JSON schema that the answer must follow.

        Raises:
            ConfigError: If an option is unknown or invalid.
        """
        from openvino_genai import GenerationConfig, StructuredOutputConfig

        try:
            unknown = [name for name in options if not hasattr(GenerationConfig, name)]  # it would ignore them
            if unknown:
                raise ValueError(f"there is no {', '.join(unknown)}")
            config = GenerationConfig(**options)
            config.apply_chat_template = False
            if schema is not None:
                config.structured_output_config = StructuredOutputConfig(json_schema=json.dumps(schema))
            self._count += 1
            return self._pipeline.add_request(self._count, prompt, config)
        except Exception as error:
            raise ConfigError(
                f"The embedded model refuses the options {dict(options)}: {_reason(error)}",
                "`extra_body` takes options of GenerationConfig in openvino_genai, such as `repetition_penalty`.",
            ) from error

    def step(self) -> None:
        """Write the next token of every request in the batch.

        Raises:
            ConfigError: If the runtime fails, as with a schema that it does not know. The model is dropped then.
        """
        try:
            self._pipeline.step()
        except RuntimeError as error:
            _loaded.cache_clear()
            raise ConfigError(
                f"{self.name} failed while it wrote: {_reason(error)}",
                "All answers so far are kept. Check the schema, or serve the model with vLLM.",
            ) from error


def _reason(error: Exception) -> str:
    """The runtime's words, without the place in its source."""
    words = re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", str(error))  # of its JSON schema compiler
    lines = [line for line in words.splitlines() if line and not line.startswith(("Check '", "Exception from"))]
    return first_line(RuntimeError(lines[0]) if lines else error)
