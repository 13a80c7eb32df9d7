"""A row's token ids and labels: loss on thought, `</think>`, answer and end token, never on the prompt.

The ids are made here and passed to the trainer as `input_ids` and `labels`, so that no trainer's masking decides what
is learnt. `paper` reproduces the published script's labels with its mistakes; `recommended` fixes them.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from datasets import Dataset

from ...errors import TrainingError
from ...utils.text import CLOSE, OPEN, split_reasoning
from .templates import OPENING, ChatFormat, recognise, render, unusable


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = [
    "EMPTY_THOUGHT",
    "IGNORED",
    "ChatEncoder",
    "EncodedRow",
    "Masking",
    "Mode",
    "Prompt",
    "check_rows",
    "conversation",
    "tokenise",
]

Mode = Literal["paper", "recommended"]
Prompt = str | Sequence[Mapping[str, str]]
"""A question, or the messages of a conversation up to the user's last one."""

IGNORED = -100
"""Label of a token without loss."""

EMPTY_THOUGHT = f"{OPEN}\n\n{CLOSE}\n\n"
"""What precedes the answer of a reasoning model that must not think ("ZeroThink", arXiv:2502.12025)."""

_SHIELDED = re.compile("\ufdd0(\\d+)\ufdd1")


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

    A prompt is a question, or a conversation (`[{"role": ..., "content": ...}]`) that ends with the user's message.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The tokenizer that will be served. It is not changed.
        masking (`Masking`, *optional*): What is learnt; thought and answer by default.
        arguments (`Mapping`, *optional*): The chat template's, such as `{"enable_thinking": True}`.
        stops (`Collection[int]`, *optional*): Tokens that end a turn when the model is served, beside the tokenizer's
            end token (`eos_token_id` of its `generation_config`).

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

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        masking: Masking | None = None,
        arguments: Mapping[str, Any] | None = None,
        stops: Collection[int] = (),
    ):
        self.tokenizer = tokenizer
        self.masking = masking or Masking()
        self.given = dict(arguments or {})
        self.stops = {*stops, tokenizer.eos_token_id} - {None}
        self.format: ChatFormat = recognise(tokenizer, self.given, tokenizer.convert_ids_to_tokens(sorted(self.stops)))
        if self.masking.think:
            self.format.check(tokenizer)
        self._specials = [each.content for each in tokenizer.added_tokens_decoder.values() if each.special]

    @property
    def arguments(self) -> dict[str, Any]:
        """The chat template's arguments, which a server needs too (`chat_template_kwargs`)."""
        thinks_not = None if self.masking.think else self.format.thinks_not
        return self.format.thinks if thinks_not is None else thinks_not

    @property
    def prefill(self) -> str:
        """What the server must add to the generation prompt; empty where the chat template is enough."""
        return self._prompt("?").removeprefix(render(self.tokenizer, "?", self.arguments))

    def serving_ids(self, prompt: Prompt) -> list[int]:
        """The prompt as the server sees it: the tokenizer's own template, then `prefill`."""
        return self._ids(self._prompt(prompt))

    def prompt_ids(self, prompt: Prompt) -> list[int]:
        """The prompt in training."""
        return self._without_bos(self.serving_ids(prompt))

    def encode(self, prompt: Prompt, response: str | None) -> EncodedRow:
        """The ids and labels of one row; without a response, of a thought that begins with the primer.

        Where a merge of tokens crosses the end of the prompt, prompt and rest are tokenised apart: a server has the
        prompt's tokens, and the model writes the others.
        """
        served, rest, start = self._prompt(prompt), self._rest(response), self.prompt_ids(prompt)
        paper = self.masking.mode == "paper"
        text = self._without_thought(served) + rest if paper and self._zero_think else served + rest
        ids = self._without_bos(self._ids(text))
        if not paper and ids[: len(start)] != start:
            ids = start + self._ids(rest)
        labels = [IGNORED] * len(start) + ids[len(start) :]
        return EncodedRow(ids, labels, ids[: len(start)] == start, response is None)

    @property
    def _zero_think(self) -> bool:
        """Whether an empty thought stands before an answer: the template has no switch of its own."""
        found = self.format
        return not self.masking.think and found.reasoning and found.opening == OPEN and found.thinks_not is None

    def _prompt(self, prompt: Prompt) -> str:
        """The served prompt, with special tokens in the texts of its messages shielded."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        shielded = [{**message, "content": self._shield(message["content"])} for message in messages]
        try:
            text = render(self.tokenizer, shielded, self.arguments)
        except Exception as error:  # a template can raise anything, such as that it takes no system message
            raise unusable(self.tokenizer, f"it fails on a conversation ({error})") from None
        for message in shielded:
            if message["content"].strip() not in text:
                raise unusable(self.tokenizer, f"it leaves out a message of the role {message['role']}")
        return self._without_thought(text) if self._zero_think and self.masking.mode != "paper" else text

    def _rest(self, response: str | None) -> str:
        """The assistant's turn after the prompt, whatever whitespace the row's response has between its parts."""
        found = self.format
        if response is None:
            return found.before + (self.masking.primer or "")
        parts = split_reasoning(response)
        answer = self._shield(parts.answer or "") + found.tail
        if self.masking.think:
            return found.before + self._shield(parts.thought or "") + found.between + answer
        return answer if self._zero_think else found.direct + answer

    def _without_thought(self, prompt: str) -> str:
        return OPENING.sub("", prompt) + EMPTY_THOUGHT

    def _shield(self, text: str) -> str:
        """The text with its special tokens numbered, so that a row's text stays text."""
        for number, special in enumerate(self._specials):
            text = text.replace(special, f"\ufdd0{number}\ufdd1")
        return text

    def _ids(self, text: str) -> list[int]:
        parts = _SHIELDED.split(text)  # between texts, the numbers of special tokens that are only text
        pieces = [
            (self._specials[int(part)], True) if place % 2 else (part, False) for place, part in enumerate(parts)
        ]
        encoded = [
            self.tokenizer(piece, add_special_tokens=False, split_special_tokens=literal)["input_ids"]
            for piece, literal in pieces
            if piece
        ]
        return [token for ids in encoded for token in ids]

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


def conversation(row: Mapping[str, Any]) -> Prompt:
    """The prompt of a row: its question, after the messages of its `history` if it has any."""
    history = row.get("history")
    return [*history, {"role": "user", "content": row["question"]}] if history else row["question"]


def tokenise(rows: Dataset, encoder: ChatEncoder) -> Dataset:
    """The columns of [`EncodedRow`] for all rows, in their order.

    Raises:
        [`TrainingError`]: If a row cannot be used for training.
    """
    check_rows(rows, encoder.masking.think, primed=encoder.masking.primer is not None)
    return rows.map(
        lambda row: encoder.encode(conversation(row), row["response"])._asdict(),
        remove_columns=rows.column_names,
        load_from_cache_file=False,
        desc="Tokenising",
    )
