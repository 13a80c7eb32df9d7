"""The values that evaluation passes around: a benchmark's item, a model's response to it, a verdict on that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from datasets import Dataset, Features, List, Value

from ..llm.types import Message
from ..schema import as_dataset


__all__ = [
    "HISTORY",
    "RESPONSES",
    "FAILURES",
    "VERDICTS",
    "Response",
    "Item",
    "Part",
    "Verdict",
    "responses_table",
    "verdicts_table",
]

Part = Literal["answer", "reasoning"]
"""What a judge read. The reasoning and the answer after it are judged separately."""

FAILURES = (
    "empty",
    "truncated",
    "unclosed",
    "unanswered",
    "judge_error",
    "unparseable",
    "unsupported_language",
    "kind_unknown",
    "no_majority",
)
"""Why there is no value. `empty`: no text; `truncated`: cut at the token limit; `unclosed`: the reasoning never ended;
`unanswered`: the model returned nothing; `judge_error`: the judge returned nothing; `unparseable`: its reply, or the
answer itself, could not be parsed; `unsupported_language`: the judge cannot read the text's language; `kind_unknown`:
the judge can tell a refusal, but not the kind that is expected; `no_majority`: the judges of a panel disagree.
Failures are counted separately and are part of no rate."""


@dataclass(frozen=True)
class Item:
    """One question of a benchmark.

    Attributes:
        id (`str`): Stable across runs and machines, unique within the benchmark.
        prompt (`str`): The user's message, ready to be sent; with `turns`, the last one.
        category (`str` or `None`): The benchmark's own category.
        target (`str` or `None`): The right answer, where there is one: a number, a letter, a test program.
        question (`str` or `None`): The question without instructions or attack, which judges are shown. `None` where
            that is `prompt` itself.
        facts (`dict`): What else grading needs, such as choices or a function's name.
        system (`str` or `None`): Its own system prompt.
        turns (`tuple[str, ...]`): The user's messages before `prompt`. What the model replies to each of them comes
            between.
    """

    id: str
    prompt: str
    category: str | None = None
    target: str | None = None
    question: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    turns: tuple[str, ...] = ()

    @property
    def asked(self) -> str:
        """The question without instructions or attack."""
        return self.prompt if self.question is None else self.question


@dataclass(frozen=True)
class Response:
    """What a model replied to an item, split into reasoning and answer.

    Attributes:
        sample (`int`): Index among several samples of the same item.
        answer (`str` or `None`): What the user sees; `None` where `failure` is set.
        failure (`str` or `None`): One of [`FAILURES`].
        tokens (`int`): Tokens that the model generated.
        history (`list[Message]` or `None`): The messages before the item's prompt: the system prompt, the earlier
            turns, and the model's answers to them; `None` without any.
    """

    item_id: str
    sample: int = 0
    answer: str | None = None
    reasoning: str | None = None
    failure: str | None = None
    tokens: int = 0
    history: list[Message] | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict of one judge or extractor on one part of one answer.

    Attributes:
        judge (`str`): The judge or extractor, such as `"llama-guard-3"` or `"math-verify"`.
        label (`str` or `None`): The judge's label, such as `"safe"`, `"full_refusal"`, `"correct"`.
        value (`float` or `None`): 0 to 1, where 1 is the desired outcome (safe, helpful, correct); `None` if and only
            if `failure` is set.
        failure (`str` or `None`): One of [`FAILURES`].
        category (`str` or `None`): What is wrong according to the judge, such as a hazard code.
        detail (`str`): The judge's reply, shortened, or what the extractor found.
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
            raise ValueError("a verdict has either a value or a failure")


_KEY = {"benchmark": Value("string"), "item_id": Value("string"), "sample": Value("int64")}

HISTORY = List({"role": Value("string"), "content": Value("string")})
"""The messages before a prompt, as chat templates take them."""

RESPONSES = Features(
    {
        **_KEY,
        **dict.fromkeys(("prompt", "question", "answer", "reasoning", "failure"), Value("string")),
        "tokens": Value("int64"),
        **dict.fromkeys(("category", "target"), Value("string")),
        "history": HISTORY,
    }
)
"""`responses.parquet` of a results folder: one row per item and sample. `question` is `Item.question`, and `history`
is `Response.history`."""

VERDICTS = Features(
    {
        **_KEY,
        **dict.fromkeys(("judge", "part", "label"), Value("string")),
        "value": Value("float64"),
        **dict.fromkeys(("failure", "category", "detail"), Value("string")),
    }
)
"""`verdicts.parquet` of a results folder: one row per item, sample, judge and part."""


def responses_table(benchmark: str, items: Sequence[Item], answers: Iterable[Response]) -> Dataset:
    """Answers to a benchmark, any number per item, as `RESPONSES`, in their order."""
    asked = {item.id: item for item in items}
    rows = []
    for answer in answers:
        item = asked[answer.item_id]
        about = {"prompt": item.prompt, "question": item.question, "category": item.category, "target": item.target}
        rows.append({"benchmark": benchmark, **vars(answer), **about})
    return as_dataset(rows, RESPONSES)


def verdicts_table(benchmark: str, verdicts: Iterable[Verdict]) -> Dataset:
    """Verdicts on a benchmark as `VERDICTS`, in their order."""
    return as_dataset(({"benchmark": benchmark, **vars(verdict)} for verdict in verdicts), VERDICTS)
