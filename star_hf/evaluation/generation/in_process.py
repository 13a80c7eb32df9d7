"""The model under evaluation in this process, by transformers: a folder or a Hub id, on a GPU or a CPU.

Requests are put into batches by length, over the whole list, whatever the journal holds already; a batch is kept
whole. So a run that was killed forms the same batches again and ends with the answers of an undisturbed run, on the
same hardware and packages. What is *not* promised is that an answer is the same in another batch: another limit or
batch size changes shapes, and with them the last bits of a sum.
"""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError, StarError
from ...llm import Completion, Request
from ...utils.text import CLOSE, OPEN
from .models import Keep, Keyed, Sampling
from .weights import fingerprint, locate


if TYPE_CHECKING:
    import torch


__all__ = ["InProcess"]

logger = logging.getLogger(__name__)


class InProcess:
    """A model in this process.

    Args:
        model (`str`): A folder that `save_pretrained` wrote, or a Hub id.
        revision (`str`, *optional*): Branch, tag or commit on the Hub.
        batch_size (`int`, defaults to 8): Requests that are computed at once.
        dtype (`str`, defaults to `"auto"`): As the weights are stored, or `"float32"`, `"bfloat16"`, `"float16"`.
        device (`str`, *optional*): `"cpu"`, `"cuda"`, `"mps"`, or `"auto"` to spread a large model over all GPUs; the
            first accelerator by default.

    Raises:
        ConfigError: If there is no such model.
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
        self.weights = locate(model, revision)
        self.name, self.revision = model, self.weights.revision
        self.batch_size, self.dtype, self.device = batch_size, dtype, device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration, tokenizer and chat template."""
        return fingerprint(self.weights.folder)

    def probe(self) -> None:
        """Load the model's tokenizer and write with its chat template.

        Raises:
            ConfigError: If a package or the tokenizer is missing.
        """
        self._prompt(Request([{"role": "user", "content": "Say OK."}]))

    def identity(self, sampling: Sampling) -> dict[str, Any]:
        """Weights, arithmetic and sampling parameters."""
        drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
        greedy = {"temperature": 0.0}
        return {
            "at": "transformers",
            "weights": self.fingerprint,
            "dtype": self.dtype,
            "repetition_penalty": sampling.repetition_penalty,
            "max_tokens": sampling.max_tokens,
            **(drawn if sampling.temperature else greedy),
        }

    def cost(self, completion: Completion) -> float:
        """Nothing is billed."""
        return 0.0

    def complete(self, requests: Sequence[Keyed], sampling: Sampling, done: Callable[[str], bool], keep: Keep) -> str:
        """Answer what is open, batch by batch.

        Raises:
            StarError: If a batch does not fit the memory.
        """
        import torch

        for batch in self._batches(requests):
            open_ = [(key, prompt) for key, prompt in batch if not done(key)]
            if not open_:
                continue
            try:
                keep(list(zip([key for key, _ in open_], self._answer(open_, sampling), strict=True)))
            except torch.OutOfMemoryError as error:
                raise StarError(
                    f"A batch of {len(open_)} prompts of up to {len(open_[0][1])} tokens does not fit the memory.",
                    "Pass a smaller `--batch-size`; all answers so far are kept.",
                ) from error
        return ""

    def _batches(self, requests: Sequence[Keyed]) -> Iterator[list[tuple[str, list[int]]]]:
        """Keys and prompts, the longest first; the key breaks ties, so that the order of requests changes nothing."""
        prompts = sorted(((key, self._prompt(request)) for key, request in requests), key=lambda p: (-len(p[1]), p[0]))
        for first in range(0, len(prompts), self.batch_size):
            yield prompts[first : first + self.batch_size]

    def _prompt(self, request: Request) -> list[int]:
        """Token ids of the conversation, opened for the model's turn, or within its turn where one is prefilled."""
        prefilled = request.messages[-1]["role"] == "assistant"
        if self._tokenizer.chat_template is None:
            text = "\n\n".join(message["content"] for message in request.messages)
            return list(self._tokenizer(text)["input_ids"])
        text = self._tokenizer.apply_chat_template(
            request.messages,
            tokenize=False,
            add_generation_prompt=not prefilled,
            continue_final_message=prefilled,
        )
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _answer(self, batch: Sequence[tuple[str, list[int]]], sampling: Sampling) -> list[Completion]:
        import torch
        from transformers import GenerationConfig

        started = time.monotonic()
        room = self._window - max(len(prompt) for _, prompt in batch)
        if room <= 0:
            words = f"the prompt fills the model's window of {self._window} tokens"
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
            text = f"{OPEN}\n{text}"  # the template opened the thought, so the text is one from its start
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
        AutoTokenizer = _transformers().AutoTokenizer
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.weights.folder)
            if not tokenizer("OK")["input_ids"]:  # made of config.json alone, without a vocabulary
                raise ValueError("its files are missing")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.weights.folder} has no tokenizer that can be loaded: {str(error).splitlines()[0]}",
                "Save the tokenizer beside the weights.",
            ) from error
        if tokenizer.chat_template is None:
            logger.warning("%s has no chat template; prompts are given to it as plain text", self.name)
        return tokenizer

    @cached_property
    def _model(self) -> Any:
        import torch

        device = self.device or ("cuda" if torch.cuda.is_available() else "cpu")
        model = _transformers().AutoModelForCausalLM.from_pretrained(
            self.weights.folder, dtype=self.dtype, device_map=device if device == "auto" else None
        )
        return (model if device == "auto" else model.to(device)).eval()

    @cached_property
    def _ends(self) -> set[int]:
        """Tokens that end an answer, by the model's generation configuration and by its tokenizer."""
        named = self._model.generation_config.eos_token_id
        ends = {named} if isinstance(named, int) else set(named or ())
        own = self._tokenizer.eos_token_id
        return ends | ({own} if own is not None else set()) or {self._tokenizer.vocab_size - 1}

    @cached_property
    def _silent(self) -> set[int]:
        """Special tokens that are no text; think tags, which some tokenizers hold for special, stay."""
        tokenizer = self._tokenizer
        return {i for i in tokenizer.all_special_ids if tokenizer.decode([i]).strip() not in (OPEN, CLOSE)}

    @cached_property
    def _window(self) -> int:
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None) or 1 << 20


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "A model in process needs transformers, which is not installed.",
            'Run `pip install "star_hf[eval]"`, or serve the model and pass `--base-url`.',
        ) from error
    return transformers


def _left_padded(prompts: list[list[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
    """Token ids and attention mask, both `(prompts, longest)`.

    Each row is padded with its own first token: a repetition penalty looks at padding, too, and must find nothing
    there that the prompt does not hold.
    """
    import torch

    longest = max(map(len, prompts))
    tokens = torch.tensor([[prompt[0]] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    return tokens, mask
