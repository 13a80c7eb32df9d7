"""The values that evaluation passes around: an item of a benchmark, a model's answer to it, and a verdict on that."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Features, Value


__all__ = ["ANSWERS", "FAILURES", "VERDICTS", "Answer", "Item", "Part", "Verdict"]

Part = Literal["answer", "reasoning"]
"""What a judge read: what the user sees, or the thought before it. They are judged apart."""

FAILURES = ("empty", "truncated", "unclosed", "unanswered", "judge_error", "unparseable", "no_majority")
"""Why an item has no verdict. `empty`: no text; `truncated`: cut at the token limit; `unclosed`: a thought that never
ends; `unanswered`: the model gave nothing; `judge_error`: the judge gave nothing; `unparseable`: it, or the extractor,
gave nothing readable; `no_majority`: the judges of a panel do not agree. A failure is never a rate: it is counted
apart and excluded."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id (`str`): Stable across runs and machines, unique within the benchmark.
        prompt (`str`): The user's message, ready to be sent.
        category (`str` or `None`): The benchmark's own grouping, for rates per category.
        target (`str` or `None`): The right answer, where there is one: a number, a letter, a test program.
        question (`str` or `None`): What is asked, where `prompt` says more than that (instructions, an attack); judges
            are shown this. `None` where it is `prompt` itself.
        facts (`dict`): What else grading needs, such as choices or a function's name.
    """

    id: str
    prompt: str
    category: str | None = None
    target: str | None = None
    question: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> str:
        """What is asked, without instructions or attack."""
        return self.prompt if self.question is None else self.question


@dataclass(frozen=True)
class Answer:
    """What a model said to an item, taken apart.

    Attributes:
        item_id (`str`): The item's `id`.
        sample (`int`): Index among several samples of the same item.
        answer (`str` or `None`): What the user sees; `None` where `failure` names why.
        reasoning (`str` or `None`): The thought, where there is one.
        failure (`str` or `None`): One of [`FAILURES`].
        tokens (`int`): Tokens that the model wrote.
    """

    item_id: str
    sample: int = 0
    answer: str | None = None
    reasoning: str | None = None
    failure: str | None = None
    tokens: int = 0


@dataclass(frozen=True)
class Verdict:
    """One judge's (or extractor's) word on one part of one answer.

    Attributes:
        item_id (`str`), sample (`int`): Which answer.
        judge (`str`): Who says so, such as `"llama-guard-3"`, `"math-verify"`.
        part (`str`): What was judged, `"answer"` or `"reasoning"`.
        label (`str` or `None`): The judge's word, such as `"safe"`, `"full_refusal"`, `"correct"`.
        value (`float` or `None`): 0 to 1, where 1 is what one wants; `None` exactly where `failure` names why.
        failure (`str` or `None`): One of [`FAILURES`].
        category (`str` or `None`): What the judge says is wrong, such as a hazard code.
        detail (`str`): The judge's own words, shortened, or what the extractor found.
    """

    item_id: str
    sample: int
    judge: str
    part: Part = "answer"
    label: str | None = None
    value: float | None = None
    failure: str | None = None
    category: str | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if (self.value is None) == (self.failure is None):
            raise ValueError("a verdict has a value or a failure, never both and never neither")


_TEXT, _COUNT = Value("string"), Value("int64")

ANSWERS = Features(
    {
        "benchmark": _TEXT,
        "item_id": _TEXT,
        "sample": _COUNT,
        "prompt": _TEXT,
        "question": _TEXT,
        "answer": _TEXT,
        "reasoning": _TEXT,
        "failure": _TEXT,
        "tokens": _COUNT,
        "category": _TEXT,
        "target": _TEXT,
    }
)
"""`answers.parquet` of a results folder: one row per item and sample. `question` is what judges are shown
(`Item.asked`), or `None` where that is `prompt` itself."""

VERDICTS = Features(
    {
        "benchmark": _TEXT,
        "item_id": _TEXT,
        "sample": _COUNT,
        "judge": _TEXT,
        "part": _TEXT,
        "label": _TEXT,
        "value": Value("float64"),
        "failure": _TEXT,
        "category": _TEXT,
        "detail": _TEXT,
    }
)
"""`verdicts.parquet` of a results folder: one row per item, sample, judge and part."""
