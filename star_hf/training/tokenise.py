"""A row's token ids and labels: loss on thought, `</think>`, answer and end token, never on the prompt.

The ids are made here and passed to the trainer as `input_ids` and `labels`, so that no trainer's masking decides what
is learnt. `paper` reproduces the published script's labels with its mistakes; `recommended` fixes them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from datasets import Dataset

from ..errors import TrainingError
from ..utils.text import CLOSE, OPEN, join_reasoning, split_reasoning
from .templates import OPENING, ChatFormat, recognise, render


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["EMPTY_THOUGHT", "IGNORED", "ChatEncoder", "EncodedRow", "Masking", "Mode", "check_rows", "tokenise"]

Mode = Literal["paper", "recommended"]

IGNORED = -100
"""Label of a token without loss."""

EMPTY_THOUGHT = f"{OPEN}\n\n{CLOSE}\n\n"
"""What precedes the answer of a reasoning model that must not think ("ZeroThink", arXiv:2502.12025)."""


@dataclass(frozen=True)
class Masking:
    """What is learnt of a row.

    Attributes:
        think (`bool`, defaults to `True`): Thought and answer; `False` is the paper's ablation "w/o think" (Section
            4.2): the answer alone.
        mode (`str`, defaults to `"recommended"`): `"paper"` cuts at the prompt's *length*, which without thinking is
            not where the prompt ends (defect D31), and leaves the empty thought to the model. `"recommended"` cuts
            where the prompt ends, and the prompt includes the empty thought.
        bos (`bool`, defaults to `True`): Whether the template's first token is kept. The published script trains
            Qwen's distills without it (defect D28).
        primer (`str`, *optional*): A row without a response teaches the model to begin its thought with this text, and
            nothing more (SafePath, arXiv:2505.14667).
    """

    think: bool = True
    mode: Mode = "recommended"
    bos: bool = True
    primer: str | None = None

    @classmethod
    def of(cls, mode: Mode, think: bool, model_type: str, primer: str | None = None) -> "Masking":
        """The masking of a mode for a kind of model, such as `"qwen2"` or `"llama"` (`config.model_type`)."""
        return cls(think, mode, bos=mode != "paper" or not model_type.startswith("qwen"), primer=primer)


class EncodedRow(NamedTuple):
    """A row as ids.

    Attributes:
        input_ids (`list[int]`): The whole conversation.
        labels (`list[int]`): The same, with [`IGNORED`] up to the first token with loss.
        aligned (`bool`): Whether the ids before the first label are exactly the served prompt.
        primed (`bool`): Whether the row has only the beginning of a thought, and so no end token.
    """

    input_ids: list[int]
    labels: list[int]
    aligned: bool
    primed: bool


class ChatEncoder:
    """Turns rows into ids and labels for one tokenizer.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer that will be served. It is not changed.
        masking (`Masking`, *optional*): What is learnt; thought and answer by default.

    Raises:
        [`TrainingError`]: If the tokenizer's chat template cannot be used for training.

    Example:

    ```python
    >>> encoder = ChatEncoder(AutoTokenizer.from_pretrained("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"))
    >>> row = encoder.encode("What is a sieve?", "<think>\\nA tool.\\n</think>\\n\\nIt sifts flour.")
    >>> tokenizer.decode([label for label in row.labels if label != -100])
    'A tool.\\n</think>\\n\\nIt sifts flour.<｜end▁of▁sentence｜>'
    ```
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", masking: Masking | None = None):
        self.tokenizer = tokenizer
        self.masking = masking or Masking()
        self.format: ChatFormat = recognise(tokenizer)

    @property
    def prefill(self) -> str:
        """What the server must add to the generation prompt; empty where the chat template is enough."""
        return self._prompt("?").removeprefix(render(self.tokenizer, "?"))

    def serving_ids(self, question: str) -> list[int]:
        """The prompt as the server sees it: the tokenizer's own template, then `prefill`."""
        return self._ids(self._prompt(question))

    def prompt_ids(self, question: str) -> list[int]:
        """The prompt in training."""
        return self._without_bos(self.serving_ids(question))

    def encode(self, question: str, response: str | None) -> EncodedRow:
        """The ids and labels of one row; without a response, of a thought that begins with the primer."""
        if response is None:  # the model opens the thought itself where the template does not
            opening = "" if self.format.opens_thought else f"{OPEN}\n"
            text = self._prompt(question) + opening + (self.masking.primer or "")
        else:
            text = render(self.tokenizer, question, self._content(response), self.format.template)
        ids, prompt = self._without_bos(self._ids(text)), self.prompt_ids(question)
        start = len(prompt)
        return EncodedRow(ids, [IGNORED] * start + ids[start:], ids[:start] == prompt, response is None)

    def _content(self, response: str) -> str:
        """The assistant's message in the published form, whatever the row's whitespace."""
        parts = split_reasoning(response)
        answer = parts.answer or ""
        if self.masking.think:
            return join_reasoning(parts.thought or "", answer)
        return EMPTY_THOUGHT + answer if self.format.reasoning else answer

    def _prompt(self, question: str) -> str:
        prompt = render(self.tokenizer, question)
        if self.masking.think or not self.format.reasoning or self.masking.mode == "paper":
            return prompt
        return OPENING.sub("", prompt) + EMPTY_THOUGHT

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _without_bos(self, ids: list[int]) -> list[int]:
        return ids if self.masking.bos or ids[0] != self.tokenizer.bos_token_id else ids[1:]


def check_rows(rows: Dataset, think: bool, primed: bool = False) -> None:
    """Refuse rows without a question, or without what is learnt of them: a closed thought and an answer, or with
    `think=False` an answer. `primed` rows may lack a response, to learn the primer alone.

    Raises:
        [`TrainingError`]: With the number of such rows and the first one's id. Texts are not shown.
    """
    allowed = {None} if think else {None, "empty_thought", "no_reasoning"}
    bad = [(place, problem) for place, row in enumerate(rows) if (problem := _problem_of(row, primed)) not in allowed]
    if bad:
        place, problem = bad[0]
        name = rows[place].get("id") or f"number {place}"
        raise TrainingError(
            f"{len(bad)} of {len(rows)} rows cannot be used for training. The first is row {name}: {_WORDS[problem]}.",
            "Fix or remove them (`star-hf audit` lists such rows)"
            + (", or train on answers alone with `think: false`." if problem == "no_reasoning" else "."),
        )


_WORDS = {
    "no_question": "its question is empty",
    "no_reasoning": "its response has no `<think>` block",
    "unclosed": "its `<think>` block is never closed",
    "ambiguous": "its response has several `<think>` blocks, or tags out of order",
    "empty_thought": "its thought is empty",
    "empty_answer": "its answer is empty",
}


def _problem_of(row: Mapping[str, Any], primed: bool) -> str | None:
    if not (row["question"] or "").strip():
        return "no_question"
    if primed and row["response"] is None:
        return None
    parts = split_reasoning(row["response"] or "")
    return "empty_answer" if parts.problem == "no_reasoning" and not parts.answer else parts.problem


def tokenise(rows: Dataset, encoder: ChatEncoder) -> Dataset:
    """The columns of [`EncodedRow`] for all rows, in their order.

    Raises:
        [`TrainingError`]: If a row cannot be used for training.
    """
    check_rows(rows, encoder.masking.think, primed=encoder.masking.primer is not None)
    return rows.map(
        lambda row: encoder.encode(row["question"], row["response"])._asdict(),
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        desc="Tokenising",
    )
