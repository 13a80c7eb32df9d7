"""The model under evaluation in this process, by transformers: a folder or a Hub id, on a GPU or a CPU.

All requests are batched by length, including those that the journal answers already, and a batch is committed at once.
So a run that was killed forms the same batches again and ends with the answers of an undisturbed run, on the same
hardware and packages. An answer may differ in another batch: another limit or batch size changes shapes, and with them
the last bits of a sum.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, StarError, first_line
from ...llm import Completion, Journal, Request
from ...llm.types import Keyed, Message, OnResult
from ...utils.extras import require
from ...utils.text import CLOSE, OPEN
from .models import NO_SYSTEM, Sampling
from .weights import fingerprint, locate


if TYPE_CHECKING:
    import torch


__all__ = ["InProcess"]

logger = logging.getLogger(__name__)


class InProcess:
    """A model in this process.

    Args:
        model (`str`): A folder written by `save_pretrained`, or a Hub id.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        batch_size (`int`, defaults to 8): Requests that are computed together.
        dtype (`str`, defaults to `"auto"`): As the weights are stored, or `"float32"`, `"bfloat16"`, `"float16"`.
        device (`str`, *optional*): `"cpu"`, `"cuda"`, `"mps"`, or `"auto"` to spread a large model over all GPUs; the
            first accelerator by default.
    """

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        batch_size: int = 8,
        dtype: str = "auto",
        device: str | None = None,
    ):
        self.name = model
        self.folder, self.revision = locate(model, revision)
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, tokenizer and chat template."""
        return fingerprint(self.folder)

    def probe(self, system: str | None = None) -> None:
        """Load the model's tokenizer and render its chat template, which must not leave the system prompt out."""
        question = {"role": "user", "content": "Say OK."}
        self._text([question])
        if system and system.strip() not in self._text([{"role": "system", "content": system}, question]):
            raise ConfigError(f"The chat template of {self.name} leaves the system prompt out.", NO_SYSTEM)

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Weights, arithmetic and sampling parameters."""
        drawn = {"temperature", "top_p", "seed"} if sampling.temperature else {"temperature"}
        return {
            "at": "transformers",
            "weights": self.fingerprint,
            "dtype": self.dtype,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": sampling.max_tokens,
            **sampling.model_dump(include=drawn),
        }

    def provider(self, requests: Sequence[Keyed], sampling: Sampling, journal: Journal) -> "Batches":
        """This model with its batches of all requests."""
        return Batches(self, requests, sampling, journal)

    def _batches(self, requests: Sequence[Keyed]) -> Iterator[list[tuple[str, list[int]]]]:
        """Keys and prompts, the longest first; keys break ties, so that the order of requests changes nothing."""
        prompts = sorted(((key, self._prompt(request)) for key, request in requests), key=lambda p: (-len(p[1]), p[0]))
        for first in range(0, len(prompts), self.batch_size):
            yield prompts[first : first + self.batch_size]

    def _prompt(self, request: Request) -> list[int]:
        """Token ids of the conversation up to the start of the model's turn, or within it if prefilled."""
        text = self._text(request.messages)
        if self._tokenizer.chat_template is None:
            return list(self._tokenizer(text)["input_ids"])
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _text(self, messages: list[Message]) -> str:
        """The conversation as the model reads it."""
        prefilled = messages[-1]["role"] == "assistant"
        if self._tokenizer.chat_template is None:
            return "\n\n".join(message["content"] for message in messages)
        try:
            return self._tokenizer.apply_chat_template(
                messages,
                tokenize=False,
                add_generation_prompt=not prefilled,
                continue_final_message=prefilled,
            )
        except Exception as error:  # a template can raise anything, such as that it takes no system message
            remedy = NO_SYSTEM if messages[0]["role"] == "system" else "Save another chat template with the tokenizer."
            raise ConfigError(
                f"The chat template of {self.name} cannot be used: {first_line(error)}", remedy
            ) from error

    def _answer(self, batch: Sequence[tuple[str, list[int]]], sampling: Sampling) -> list[Completion]:
        import torch
        from transformers import GenerationConfig

        started = time.monotonic()
        room = self._window - max(len(prompt) for _, prompt in batch)
        if room <= 0:
            words = f"the prompt fills the model's context window of {self._window} tokens"
            return [Completion("", outcome="invalid_request", detail=words, model=self.name) for _ in batch]
        tokens, mask = _left_padded([prompt for _, prompt in batch])
        draw = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=min(sampling.max_tokens, room),
            repetition_penalty=sampling.repetition_penalty,
            eos_token_id=sorted(self._ends),
            pad_token_id=min(self._ends),
            **(draw if sampling.temperature else {"do_sample": False}),
        )
        torch.manual_seed(int.from_bytes(hashlib.sha256("".join(key for key, _ in batch).encode()).digest()[:7]))
        with torch.inference_mode():
            written = self._model.generate(
                tokens.to(self._model.device), attention_mask=mask.to(self._model.device), generation_config=config
            )
        seconds = time.monotonic() - started
        rows = written[:, tokens.shape[1] :].tolist()
        return [self._completion(prompt, row, seconds) for (_, prompt), row in zip(batch, rows, strict=True)]

    def _completion(self, prompt: list[int], written: list[int], seconds: float) -> Completion:
        end = next((place for place, token in enumerate(written) if token in self._ends), None)
        kept = [token for token in written[:end] if token not in self._silent]
        text = self._tokenizer.decode(kept, skip_special_tokens=False)
        if self._tokenizer.decode(prompt[-8:]).rstrip().endswith(OPEN):
            text = f"{OPEN}\n{text}"  # the template opened the reasoning
        return Completion(
            text=text,
            outcome="ok" if end is not None else "truncated",
            prompt_tokens=len(prompt),
            completion_tokens=len(written) if end is None else end + 1,
            model=self.name,
            latency_s=seconds,
        )

    @cached_property
    def _tokenizer(self) -> Any:
        require("eval", "transformers", "torch", what="A model in this process")
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder)
            if not tokenizer("OK")["input_ids"]:  # made from config.json alone, without a vocabulary
                raise ValueError("its files are missing")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.folder} has no usable tokenizer: {str(error).splitlines()[0]}",
                "Save the tokenizer beside the weights.",
            ) from error
        if tokenizer.chat_template is None:
            logger.warning("%s has no chat template: prompts are sent as plain text", self.name)
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = AutoModelForCausalLM.from_pretrained(
            self.folder, dtype=self.dtype, device_map=device if device == "auto" else None
        )
        return (model if device == "auto" else model.to(device)).eval()

    @cached_property
    def _ends(self) -> set[int]:
        """Tokens that end an answer, from the model's generation configuration and its tokenizer."""
        named = self._model.generation_config.eos_token_id
        ends = {named} if isinstance(named, int) else set(named or ())
        own = self._tokenizer.eos_token_id
        return ends | ({own} if own is not None else set()) or {self._tokenizer.vocab_size - 1}

    @cached_property
    def _silent(self) -> set[int]:
        """Special tokens that are not text. Think tags, which are special in some tokenizers, are kept."""
        tokenizer = self._tokenizer
        return {i for i in tokenizer.all_special_ids if tokenizer.decode([i]).strip() not in (OPEN, CLOSE)}

    @cached_property
    def _window(self) -> int:
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20


@dataclass(frozen=True)
class Batches:
    """A model in this process as a [`~star_hf.llm.types.Provider`].

    All requests, including those that the journal answers already, determine the batches.
    """

    model: InProcess
    requests: Sequence[Keyed]
    sampling: Sampling
    journal: Journal

    def complete(self, requests: Iterator[Keyed], on_result: OnResult) -> list[str]:
        """Answer open requests, batch by batch. Raises [`StarError`] if a batch does not fit in memory."""
        import torch

        waiting = {key for key, _ in requests}
        for batch in self.model._batches(self.requests):
            prompts = [(key, prompt) for key, prompt in batch if key in waiting]
            if not prompts:
                continue
            try:
                answers = self.model._answer(prompts, self.sampling)
            except torch.OutOfMemoryError as error:
                raise StarError(
                    f"A batch of {len(prompts)} prompts of up to {len(prompts[0][1])} tokens does not fit in memory.",
                    "Pass a smaller `--batch-size`; all answers so far are kept.",
                ) from error
            with self.journal.transaction():
                for (key, _), answer in zip(prompts, answers, strict=True):
                    on_result(key, answer)
                    waiting.discard(key)
        return []


def _left_padded(prompts: list[list[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask, both `(prompts, longest)`.

    Each row is padded with its own first token: a repetition penalty sees the padding, too, and must not find a token
    there that is not in the prompt.
    """
    import torch

    longest = max(map(len, prompts))
    tokens = torch.tensor([[prompt[0]] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return tokens, mask
