"""A row's token ids and labels: loss on thought, `</think>`, answer and end token, never on the prompt.

The ids are made here and handed over as `input_ids` and `labels`, so that no trainer's own masking decides what is
learnt. `paper` reproduces the published script's labels, with its slips; `recommended` mends them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from datasets import Dataset

from ..errors import TrainingError
from ..utils.text import CLOSE, OPEN, join_reasoning, split_reasoning
from .templates import ChatFormat, recognise, render


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["EMPTY_THOUGHT", "IGNORED", "Encoded", "Encoder", "Masking", "Mode", "check_rows", "tokenise"]

Mode = Literal["paper", "recommended"]

IGNORED = -100
"""Label of a token without loss."""

EMPTY_THOUGHT = f"{OPEN}\n\n{CLOSE}\n\n"
"""What stands before the answer of a reasoning model that is not to think ("ZeroThink", arXiv:2502.12025)."""


@dataclass(frozen=True)
class Masking:
    """What is learnt of a row.

    Attributes:
        think (`bool`, defaults to `True`): Thought and answer; `False` is the paper's ablation "w/o think" (Section
            4.2): the answer alone.
        mode (`str`, defaults to `"recommended"`): `"paper"` cuts at the prompt's *length*, which without thinking is
            not where the prompt ends (defect D31), and leaves the empty thought to the model; `"recommended"` cuts
            where the prompt ends, with the empty thought in it.
        bos (`bool`, defaults to `True`): Whether the first token is the template's. The published script trains
            Qwen's distills without it (defect D28).
        primer (`str`, *optional*): What is learnt of a row without a response: to begin the thought so, and nothing
            of how it goes on (SafePath, arXiv:2505.14667).
    """

    think: bool = True
    mode: Mode = "recommended"
    bos: bool = True
    primer: str | None = None

    @classmethod
    def of(cls, mode: Mode, think: bool, model_type: str, primer: str | None = None) -> "Masking":
        """The masking of a mode for a kind of model, such as `"qwen2"` or `"llama"` (`config.model_type`)."""
        return cls(think, mode, bos=mode != "paper" or not model_type.startswith("qwen"), primer=primer)


class Encoded(NamedTuple):
    """A row as ids.

    Attributes:
        input_ids (`list[int]`): The whole conversation.
        labels (`list[int]`): The same, with [`IGNORED`] up to where the loss starts.
        aligned (`bool`): Whether the ids before the first label are exactly those of the prompt at inference.
        primed (`bool`): Whether only the beginning of a thought is there, and so no end token.
    """

    input_ids: list[int]
    labels: list[int]
    aligned: bool
    primed: bool


class Encoder:
    """Turns rows into ids and labels for one tokenizer.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): As it will be served. It is not changed.
        masking (`Masking`, *optional*): What is learnt; thought and answer by default.

    Raises:
        TrainingError: If the tokenizer's chat template cannot be trained on.

    Example:

    ```python
    >>> encoder = Encoder(AutoTokenizer.from_pretrained("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"))
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
        """What the server must add to the generation prompt; empty where the chat template alone is enough."""
        return self._prompt("?").removeprefix(render(self.tokenizer, "?"))

    def serving_ids(self, question: str) -> list[int]:
        """The prompt as a server sees it: what the tokenizer's own template gives, and `prefill`."""
        return self._ids(self._prompt(question))

    def prompt_ids(self, question: str) -> list[int]:
        """The prompt as it is trained on."""
        ids = self.serving_ids(question)
        return ids if self.masking.bos or ids[0] != self.tokenizer.bos_token_id else ids[1:]

    def encode(self, question: str, response: str | None) -> Encoded:
        """The ids and labels of one row; without a response, of a thought that begins with the primer."""
        primed = response is None
        text = self._primed(question) if primed else self._whole(question, response)
        whole = self._ids(text)
        if not self.masking.bos and whole[0] == self.tokenizer.bos_token_id:
            whole = whole[1:]
        prompt = self.prompt_ids(question)
        start = len(prompt)
        return Encoded(whole, [IGNORED] * start + whole[start:], whole[:start] == prompt, primed)

    def _whole(self, question: str, response: str) -> str:
        return render(self.tokenizer, question, self._content(response), self.format.template)

    def _primed(self, question: str) -> str:
        """The prompt and the beginning of a thought, which the model opens itself where the template does not."""
        opening = "" if self.format.opens_thought else f"{OPEN}\n"
        return self._prompt(question) + opening + (self.masking.primer or "")

    def _content(self, response: str) -> str:
        """The assistant's message in the published form, whatever whitespace the row has."""
        parts = split_reasoning(response)
        answer = parts.answer or ""
        if self.masking.think:
            return join_reasoning(parts.thought or "", answer)
        return EMPTY_THOUGHT + answer if self.format.reasoning else answer

    def _prompt(self, question: str) -> str:
        prompt = render(self.tokenizer, question)
        if self.masking.think or not self.format.reasoning or self.masking.mode == "paper":
            return prompt
        return re.sub(rf"{OPEN}\s*\Z", "", prompt) + EMPTY_THOUGHT

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]


def check_rows(rows: Dataset, think: bool, primed: bool = False) -> None:
    """Refuse rows that are not a question with what `think` needs: a closed thought and an answer, or an answer.

    Args:
        rows ([`~datasets.Dataset`]): With `question` and `response`.
        think (`bool`): Whether thoughts are learnt.
        primed (`bool`, defaults to `False`): Whether a row may lack its response, to learn the primer alone.

    Raises:
        TrainingError: With the number of such rows, and where the first stands. Texts are not shown.
    """
    allowed = {None} if think else {None, "empty_thought", "no_reasoning"}
    bad = []
    for index, row in enumerate(rows):
        problem = _problem_of(row, primed)
        if problem not in allowed:
            bad.append((index, problem))
    if bad:
        index, problem = bad[0]
        name = rows[index].get("id") or f"number {index}"
        raise TrainingError(
            f"{len(bad)} of {len(rows)} rows cannot be learnt from; the first is row {name}: {_WORDS[problem]}.",
            "Mend or remove them (`star-hf audit` lists such rows)"
            + (", or train on answers alone with `think: false`." if problem == "no_reasoning" else "."),
        )


_WORDS = {
    "no_question": "its question is empty",
    "no_reasoning": "its response has no `<think>` block",
    "unclosed": "its `<think>` block is never closed",
    "ambiguous": "its response has several `<think>` blocks or tags out of order",
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


def tokenise(rows: Dataset, encoder: Encoder, num_proc: int | None = None) -> Dataset:
    """Columns `input_ids`, `labels`, `aligned` and `primed` ([`Encoded`]) of all rows, in their order.

    Raises:
        TrainingError: If a row cannot be learnt from.
    """
    check_rows(rows, encoder.masking.think, primed=encoder.masking.primer is not None)
    return rows.map(
        lambda row: encoder.encode(row["question"], row["response"])._asdict(),
        remove_columns=rows.column_names,
        num_proc=num_proc,
        load_from_cache_file=False,
        desc="Tokenising",
    )
