"""One request in the embedded model: which token comes next, and when a phase ends."""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...utils.text import CLOSE


if TYPE_CHECKING:
    import torch


__all__ = ["Row", "advance", "encode", "whole_sentences", "without_tags"]

MIN_TOKENS = 24
"""Tokens of free text before the model may end it."""
NO_REPEAT = 6
"""Free text never repeats this many tokens in a row: small models loop at temperature 0."""
TAG = re.compile(r"</?\s*(?:think(?:ing)?|thought)\s*>", re.IGNORECASE)
SENTENCES = re.compile(r"\A.*[^\s\d][.!?。！？][\"')\]*]*(?=\s|\Z)", re.DOTALL)


@dataclass
class Row:
    """One request in progress: its prompt, the tokens it may still write, and those it has written.

    Attributes:
        thinking (`bool`): Whether the next token belongs to the thought.
        budget (`int`): Tokens left in this phase.
        forced (`deque[int]`): Tokens that come next, whatever the model predicts.
        thought, answer (`list[int]`): Tokens written, without forced ones.
    """

    key: str
    prompt: list[int]
    thinking: bool
    budget: int
    answer_budget: int
    guide: Any
    generator: "torch.Generator"
    forced: deque[int] = field(default_factory=deque)
    thought: list[int] = field(default_factory=list)
    answer: list[int] = field(default_factory=list)
    steps: int = 0
    cut: dict[str, bool] = field(default_factory=dict)
    done: bool = False

    @property
    def written(self) -> list[int]:
        """Tokens of the current phase."""
        return self.thought if self.thinking else self.answer


def encode(tokenizer: Any, text: str) -> list[int]:
    """The text's tokens, with nothing added."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def advance(row: Row, logits: "torch.Tensor", tokenizer: Any, temperature: float, top_p: float) -> int:
    """Choose the row's next token and move it on: within its phase, from thought to answer, or to its end."""
    end = tokenizer.eos_token_id
    row.steps += 1
    if row.forced:
        return row.forced.popleft()
    guide = None if row.thinking else row.guide
    _restrict(row, guide, logits, end)
    token = _sample(logits, temperature, top_p, row.generator)
    row.budget -= 1
    if guide is not None:
        guide.advance(token, return_tokens=False)
    if token != end:
        row.written.append(token)
    closed = row.thinking and CLOSE in tokenizer.decode(row.thought[-8:])
    over = token == end or closed or (guide is not None and guide.is_finished() and guide.get_tokens() == [end])
    if not over and row.budget > 0:
        return token
    row.cut["thought" if row.thinking else "answer"] = not over
    if not row.thinking:
        row.done = True
        return token
    row.thinking, row.budget = False, row.answer_budget
    row.forced.extend(encode(tokenizer, "\n\n" if closed else f"\n{CLOSE}\n\n"))
    return row.forced.popleft() if token == end else token


def _restrict(row: Row, guide: Any, logits: "torch.Tensor", end: int) -> None:
    """Exclude, in place, tokens that the schema forbids or that free text must not have next."""
    import torch

    if guide is not None:
        allowed = torch.zeros((logits.numel() + 31) // 32, dtype=torch.int32)
        guide.write_mask_into(allowed.data_ptr(), allowed.numel(), allowed.element_size())
        bits = (allowed[:, None] >> torch.arange(32)) & 1
        logits[bits.flatten()[: logits.numel()] == 0] = -torch.inf
        return
    written = row.written
    if len(written) < MIN_TOKENS:
        logits[end] = -torch.inf
    tail = written[1 - NO_REPEAT :]
    for start in range(len(written) - NO_REPEAT + 1):
        if written[start : start + NO_REPEAT - 1] == tail:
            logits[written[start + NO_REPEAT - 1]] = -torch.inf


def _sample(logits: "torch.Tensor", temperature: float, top_p: float, generator: "torch.Generator") -> int:
    """A token id: the most likely one, or one drawn from the smallest set with `top_p` of the probability."""
    import torch

    if temperature == 0:
        return int(logits.argmax())
    probabilities, order = torch.softmax(logits / temperature, -1).sort(descending=True, stable=True)
    probabilities[probabilities.cumsum(-1) - probabilities >= top_p] = 0
    return int(order[torch.multinomial(probabilities, 1, generator=generator)])


def without_tags(text: str) -> str:
    """The text without think tags, including those that appear when one is removed."""
    while TAG.search(text):
        text = TAG.sub("", text)
    return text.strip()


def whole_sentences(text: str) -> str:
    """The text up to the end of its last complete sentence; empty if there is none."""
    match = SENTENCES.match(text)
    return match.group() if match else ""
