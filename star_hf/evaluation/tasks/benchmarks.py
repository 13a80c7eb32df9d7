"""The benchmarks, one record each: items, tasks of lighteval and inspect-ai, averages and docs are made from these.

Where the data are and which rows count is said by the card (`star_hf.sources.catalogue`) and its reader
(`star_hf.sources.readers`), so that what is measured is exactly what training data must not hold. Two benchmarks are
not the paper's: XSTest's unsafe half, a contrast to its safe one, and WildChat, which the paper took from a private
edition: ours is drawn by the same rule from the public one, and is not identical.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, Literal

from ...errors import ConfigError, PolicyError
from ...policies import Suite
from ...sources.catalogue import Source, catalogue
from ...sources.readers import Drop, Reader, readers_of
from ...utils.text import row_id
from ..types import Item
from . import items


__all__ = [
    "BENCHMARKS",
    "GROUPS",
    "OVER_REFUSAL",
    "REASONING",
    "SAFETY",
    "Benchmark",
    "Kind",
    "SUITE",
    "benchmark_named",
    "benchmarks_table",
    "place_of",
    "select_benchmarks",
]

Kind = Literal["safety", "over_refusal", "reasoning", "policy"]

DESIRED = {"safety": "safe", "over_refusal": "helpful", "reasoning": "right", "policy": "conforming"}
"""The answers that a benchmark of each kind measures the share of."""

SUITE = "suite-"
"""What the name of a suite begins with, as a benchmark."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name (`str`): Its name on the command line, in results and in the paper's tables (`paper.yaml`).
        title (`str`): Its name in texts.
        asks (`str`): What is asked, as it follows a number: `"harmful questions"`.
        card (`str`): Its card in `datasets_scripts/`, which is also the folder of a local copy.
        kind (`str`): `"safety"`, `"over_refusal"`, `"reasoning"` or `"policy"`: answers should be safe, helpful,
            right, or as a policy's suite expects.
        grader (`str`): `"judge"`, or what compares the answer with the target: `"math"`, `"choice"`, `"code"`.
        paper_items (`int`, *optional*): Items that the paper states; `None` where its tables lack the benchmark.
        contrast (`int`, *optional*): Number of items where they are the rows that the card's reader drops. A contrast
            is in no average.
        id (`str`, *optional*): Column of the item's id, which is a hash of the question without one.
        category (`str`, *optional*): Column of the item's category.
        target (`str`, *optional*): Column of the right answer.
        facts (`tuple[str, ...]`): Columns that are kept with the item.
        columns (`tuple[str, ...]`): Further columns that `finish` reads.
        finish (`Callable`, *optional*): Makes the final item of one that has the columns' values; `None` drops it.
        select (`Callable`, *optional*): Picks the benchmark from all items.
        items (`tuple[Item, ...]`): The items of a suite, which has no card.
        rules (`dict[str, str]`): The rules of a suite, by reference.
    """

    name: str
    title: str
    asks: str
    card: str
    kind: Kind = "safety"
    grader: Literal["judge", "math", "choice", "code"] = "judge"
    paper_items: int | None = None
    contrast: int | None = None
    id: str | None = None
    category: str | None = None
    target: str | None = None
    facts: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    finish: Callable[[Item, Mapping[str, Any]], Item | None] | None = None
    select: Callable[[Sequence[Item]], list[Item]] | None = None
    items: tuple[Item, ...] = field(default=(), repr=False)
    rules: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of_suite(cls, suite: Suite) -> "Benchmark":
        """A policy's suite as a benchmark: an item's category is its rule, and its target the expected kind.

        Raises:
            [`PolicyError`]: If the suite lacks the text of a rule, which judges need.
        """
        if lacking := [case.rule for case in suite.cases if case.rule not in suite.rules]:
            raise PolicyError(
                f"The suite {suite.name!r} does not hold the text of the rule {lacking[0]!r}.",
                "Add it to its `rules`, or use `star-hf policy test` with --policies.",
            )
        items = tuple(
            Item(case.id, case.turns[-1], category=case.rule, target=case.expect, turns=tuple(case.turns[:-1]))
            for case in suite.cases
        )
        name = SUITE + re.sub(r"[^\w.-]+", "-", suite.name).strip("-")
        asks = "cases of a policy's suite"
        return cls(name, suite.name, asks, card="", kind="policy", items=items, rules=dict(suite.rules))

    @cached_property
    def source(self) -> Source:
        """Where it is. `load_dataset(str(source.folder), split="train")` reads its rows."""
        card = _cards()[self.card]
        own = (self.id, self.category, self.target, *self.facts, *self.columns)
        return replace(card, columns=(*card.columns, *filter(None, own)))

    @property
    def count(self) -> int | None:
        """How many items it has; `None` where that depends on the edition."""
        return self.contrast or len(self.items) or (self.source.subset or {}).get("rows", self.source.rows)

    @property
    def summary(self) -> str:
        """What is asked and measured, in one line."""
        number = "" if self.count is None else f"{self.count:,} "
        return f"{self.title}: {number}{self.asks}; share of {DESIRED[self.kind]} answers"

    def to_item(self, row: Mapping[str, Any]) -> Item | None:
        """The item of a row, with the bare question as prompt; `None` where the row does not count."""
        take = self._reader(row)
        if isinstance(take, Drop) != (self.contrast is not None):
            return None
        question = take.question if isinstance(take, Drop) else take[0] if isinstance(take, list) else take
        item = Item(
            id=row_id(question) if self.id is None else str(row[self.id]),
            prompt=question,
            category=self.category and row[self.category],
            target=self.target and str(row[self.target]),
            facts={name: row[name] for name in self.facts},
        )
        return item if self.finish is None else self.finish(item, row)

    @cached_property
    def _reader(self) -> Reader:
        return readers_of("recommended")[self.card]


_cards = cache(catalogue)

_RECORDS = (
    Benchmark(
        "strongreject", "StrongREJECT", "harmful questions", "StrongREJECT", paper_items=313, category="category"
    ),
    Benchmark("jbb", "JailbreakBench", "harmful behaviours", "JBBBehaviours", paper_items=100, category="Category"),
    Benchmark(
        "wildchat",
        "WildChat",
        "toxic first turns of real users",
        "WildChat",
        paper_items=370,
        finish=items.wildchat,
        select=items.highest_scores,
    ),
    Benchmark("wildjailbreak", "WildJailbreak", "adversarial harmful prompts", "wildjailbreak-eval", paper_items=250),
    Benchmark(
        "xstest", "XSTest", "safe prompts that sound harmful", "XSTest", kind="over_refusal", id="id", category="type"
    ),
    Benchmark(
        "xstest_unsafe", "XSTest", "unsafe prompts, a contrast", "XSTest", contrast=200, id="id", category="type"
    ),
    Benchmark(
        "aime24",
        "AIME 2024",
        "competition problems",
        "AIME24",
        kind="reasoning",
        grader="math",
        paper_items=30,
        id="id",
        target="answer",
    ),
    Benchmark(
        "math500",
        "MATH-500",
        "problems of competition mathematics",
        "MATH-500",
        kind="reasoning",
        grader="math",
        paper_items=500,
        id="unique_id",
        category="subject",
        target="answer",
        facts=("level",),
    ),
    Benchmark(
        "gpqa_diamond",
        "GPQA Diamond",
        "graduate-level questions with four choices",
        "GPQA-Diamond",
        kind="reasoning",
        grader="choice",
        paper_items=198,
        id="Record ID",
        category="High-level domain",
        columns=("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        finish=items.gpqa,
    ),
    Benchmark(
        "mmlu_pro",
        "MMLU-Pro",
        "questions with up to ten choices",
        "MMLU-Pro",
        kind="reasoning",
        grader="choice",
        paper_items=12_102,
        id="question_id",
        category="category",
        target="answer",
        columns=("options",),
        finish=items.mmlu_pro,
    ),
    Benchmark(
        "humaneval",
        "HumanEval",
        "functions to complete",
        "HumanEval",
        kind="reasoning",
        grader="code",
        paper_items=164,
        id="task_id",
        target="test",
        facts=("entry_point",),
        finish=items.humaneval,
    ),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in _RECORDS}


def _averaged(kind: Kind) -> tuple[str, ...]:
    return tuple(each.name for each in _RECORDS if each.kind == kind and each.contrast is None)


SAFETY, OVER_REFUSAL, REASONING = map(_averaged, ("safety", "over_refusal", "reasoning"))
"""What is averaged to a safety rate, an over-refusal rate and a reasoning accuracy; the contrast is in none."""

GROUPS: dict[str, tuple[str, ...]] = {
    "safety": tuple(each.name for each in _RECORDS if each.kind != "reasoning"),
    "reasoning": REASONING,
    "all": tuple(BENCHMARKS),
}
"""What can be asked for at once: a safety run always shows what safety costs in refusals."""


def benchmark_named(name: str) -> Benchmark | None:
    """The benchmark with this name in results; of a suite its name and kind alone, since its file may be gone."""
    suite = Benchmark(name, name.removeprefix(SUITE), "cases", card="", kind="policy")
    return BENCHMARKS.get(name) or (suite if name.startswith(SUITE) else None)


def place_of(name: str) -> int:
    """The place of a benchmark in every list: that of `BENCHMARKS`, and suites after them."""
    return _PLACES.get(name, len(_PLACES))


_PLACES = {name: place for place, name in enumerate(BENCHMARKS)}


def select_benchmarks(names: Iterable[str | Benchmark]) -> list[Benchmark]:
    """The benchmarks of names and groups, with or without `star1:`, and of suites' files, each once and in the order
    of `BENCHMARKS`; suites stand last.

    Raises:
        [`ConfigError`]: If there is no such benchmark, or two suites have the same name.
        [`PolicyError`]: If a suite's file cannot be used.
    """
    wanted, suites = set(), dict[str, Benchmark]()
    for name in names:
        if isinstance(name, Benchmark) or name.endswith((".yaml", ".yml")):
            suite = name if isinstance(name, Benchmark) else Benchmark.of_suite(Suite.load(name))
            if suites.setdefault(suite.name, suite) != suite:
                raise ConfigError(f"Two suites have the name {suite.title!r}.", "Give one another `name`.")
            continue
        bare = name.removeprefix("star1:")
        if bare not in BENCHMARKS and bare not in GROUPS:
            raise ConfigError(
                f"There is no benchmark {name!r}.",
                f"Use {', '.join(BENCHMARKS)}, a group ({', '.join(GROUPS)}), or a suite's file (suite.yaml).",
            )
        wanted |= set(GROUPS.get(bare, (bare,)))
    return [*(benchmark for name, benchmark in BENCHMARKS.items() if name in wanted), *suites.values()]


def benchmarks_table() -> str:
    """The benchmarks as the Markdown table of `docs/evaluation.md`."""
    lines = ["| name | what it asks and measures | groups | grader | items in the paper | card |"]
    lines.append("|---|---|---|---|---:|---|")
    for each in _RECORDS:
        groups = ", ".join(name for name, members in GROUPS.items() if each.name in members and name != "all")
        card = f"[{each.card}](../datasets_scripts/raw/{each.card}/README.md)"
        paper = "" if each.paper_items is None else f"{each.paper_items:,}"
        lines.append(f"| `{each.name}` | {each.summary} | {groups} | {each.grader} | {paper} | {card} |")
    return "\n".join(lines) + "\n"
