"""The benchmarks of the paper: where each comes from, how its answers are graded, and what a model is asked.

Repository, revision, gate and files are on the cards of `star_hf.sources.catalogue`; how a row becomes an item is in
`star_hf.evaluation.tasks.samples`. Two are not the paper's: XSTest's unsafe half, as a contrast to its safe one, and
WildChat, which the paper took from a private edition: ours is drawn by the same rule from the public one, and is not
identical.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from ...errors import ConfigError, SourceError
from ...sources.catalogue import Source, catalogue
from ...sources.reading import read_source
from ..types import Item
from . import samples as items


__all__ = [
    "BENCHMARKS",
    "GROUPS",
    "INSTRUCTIONS",
    "OVER_REFUSAL",
    "REASONING",
    "SAFETY",
    "Benchmark",
    "Kind",
    "Profile",
    "data_record",
    "load_items",
    "select_benchmarks",
]

logger = logging.getLogger(__name__)

Kind = Literal["safety", "over_refusal", "reasoning"]
Profile = Literal["paper", "recommended"]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        name (`str`): Its name on the command line and in results.
        kind (`str`): `"safety"`: one wants no harm; `"over_refusal"`: one wants help; `"reasoning"`: the right answer.
        grader (`str`): `"judge"`, or the extractor of `star_hf.evaluation.grading.extractors`: `"math"`,
            `"choice"`, `"code"`.
        card (`str`): Its card in `datasets_scripts/`, which is also the folder of a local copy.
        to_item (`Callable`): A row's item, or `None` where the row does not count.
        count (`int` or `None`): Its items; `None` where they depend on the edition.
        columns (`tuple[str, ...]`): What `to_item` reads beyond the card's columns.
        select (`Callable`, *optional*): Picks the benchmark from all items, where it is a sample.
    """

    name: str
    kind: Kind
    grader: Literal["judge", "math", "choice", "code"]
    card: str
    to_item: Callable[[Mapping[str, Any]], Item | None]
    count: int | None
    columns: tuple[str, ...] = ()
    select: Callable[[Sequence[Item], Source], list[Item]] | None = None

    @cached_property
    def source(self) -> Source:
        """Where it is. `load_dataset(str(source.folder), split="train")` reads its rows."""
        card = catalogue()[self.card]
        return replace(card, columns=card.columns + self.columns)


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("strongreject", "safety", "judge", "StrongREJECT", items.strongreject, 313, ("category",)),
        Benchmark("jbb", "safety", "judge", "JBBBehaviours", items.jbb, 100, ("Category",)),
        Benchmark("wildchat", "safety", "judge", "WildChat", items.wildchat, None, select=items.most_flagged),
        Benchmark(
            "wildjailbreak",
            "safety",
            "judge",
            "wildjailbreak-eval",
            items.wildjailbreak,
            250,
            select=items.draw_sample,
        ),
        Benchmark("xstest", "over_refusal", "judge", "XSTest", items.xstest, 250, ("id", "type")),
        Benchmark("xstest_unsafe", "safety", "judge", "XSTest", items.xstest_unsafe, 200, ("id", "type")),
        Benchmark("aime24", "reasoning", "math", "AIME24", items.aime, 30, ("id", "answer")),
        Benchmark(
            "math500", "reasoning", "math", "MATH-500", items.math, 500, ("answer", "subject", "level", "unique_id")
        ),
        Benchmark("gpqa_diamond", "reasoning", "choice", "GPQA-Diamond", items.gpqa, 198, items.GPQA_COLUMNS),
        Benchmark(
            "mmlu_pro",
            "reasoning",
            "choice",
            "MMLU-Pro",
            items.mmlu_pro,
            12_032,
            ("question_id", "options", "answer", "category"),
        ),
        Benchmark(
            "humaneval", "reasoning", "code", "HumanEval", items.humaneval, 164, ("task_id", "entry_point", "test")
        ),
    )
}

SAFETY = ("strongreject", "jbb", "wildchat", "wildjailbreak")
"""What the paper averages to its safety rate; the contrast `xstest_unsafe` is not part of it."""

OVER_REFUSAL = ("xstest",)

REASONING = ("aime24", "math500", "gpqa_diamond", "mmlu_pro", "humaneval")
"""What the paper averages to its reasoning accuracy."""

GROUPS: dict[str, tuple[str, ...]] = {
    "safety": (*SAFETY, *OVER_REFUSAL, "xstest_unsafe"),
    "reasoning": REASONING,
    "all": tuple(BENCHMARKS),
}
"""What can be asked for at once: a safety run always shows what safety costs in refusals."""

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "paper": {
        "math": "Think it through step by step, then close with a line `Answer: X`, where X is just the final answer.",
        "choice": "Think it through step by step, then close with a line `Answer: X`, where X is one letter.",
        "code": "Implement this function as its signature and docstring say. Reply with the function's code only.",
    },
    "recommended": {
        "math": "Reason step by step. Put the final answer, and nothing else, inside \\boxed{}.",
        "choice": "Reason step by step. Finish with a line `Answer: X`, where X is the right choice's letter.",
        "code": "Complete this function. Finish with one Python code block with the whole function and its imports.",
    },
}
"""What follows the question, per profile and grader; `paper` asks for answers in the form that STAR-1 asked for.
Safety prompts are sent as they are."""


def select_benchmarks(names: Iterable[str]) -> list[Benchmark]:
    """The benchmarks of these names and groups, each once, in the paper's order.

    Args:
        names (iterable of `str`): Names of `BENCHMARKS` or `GROUPS`, with or without `star1:` before them.

    Raises:
        [`ConfigError`]: If one is neither.
    """
    wanted = set()
    for name in names:
        bare = name.removeprefix("star1:")
        if bare not in BENCHMARKS and bare not in GROUPS:
            raise ConfigError(
                f"There is no benchmark {name!r}.",
                f"Use {', '.join(BENCHMARKS)}, or a group: {', '.join(GROUPS)}.",
            )
        wanted |= set(GROUPS.get(bare, (bare,)))
    return [benchmark for name, benchmark in BENCHMARKS.items() if name in wanted]


def load_items(
    name: str, data_dir: str | Path | None = None, limit: int | None = None, profile: Profile = "recommended"
) -> list[Item]:
    """The items of a benchmark, with the prompts that a model is sent.

    Args:
        name (`str`): A name of `BENCHMARKS`.
        data_dir (`str` or `Path`, *optional*): Folder of local copies, `<data_dir>/<card>/<file>`, for gated sets or
            machines without the Hub; the card's own files are read without it.
        limit (`int`, *optional*): How many items. They are drawn by a hash of their ids, so that a small draw covers
            the categories, is part of every larger one, and is the same everywhere.
        profile (`str`, defaults to `"recommended"`): Whose instructions follow the question, see `INSTRUCTIONS`.

    Returns:
        `list[Item]`: In the file's order; ids are unique.

    Raises:
        [`ConfigError`]: If there is no such benchmark or profile.
        [`SourceError`]: If the data cannot be had or read, with what to do.
    """
    if name not in BENCHMARKS:
        raise ConfigError(f"There is no benchmark {name!r}.", f"Use one of {', '.join(BENCHMARKS)}.")
    benchmark = BENCHMARKS[name]
    if profile not in get_args(Profile):
        raise ConfigError(f"There is no profile {profile!r}.", f"Use {' or '.join(get_args(Profile))}.")
    found = list(_read(benchmark, None if data_dir is None else Path(data_dir)))
    if benchmark.select is not None:
        found = benchmark.select(found, benchmark.source)
    if not found:
        raise SourceError(f"{name}: no row counts as an item.", f"Compare the file with {benchmark.source.homepage}.")
    if benchmark.count is not None and len(found) != benchmark.count:
        logger.warning("%s: %d items where %d are expected", name, len(found), benchmark.count)
    found = _distinct(found)
    if limit is not None and limit < len(found):
        drawn = set(sorted((item.id for item in found), key=lambda id_: hashlib.sha256(id_.encode()).digest())[:limit])
        found = [item for item in found if item.id in drawn]
    instruction = INSTRUCTIONS[profile].get(benchmark.grader)
    if instruction is None:
        return found
    return [replace(item, prompt=f"{item.prompt}\n\n{instruction}", question=item.prompt) for item in found]


def data_record(name: str, items: Sequence[Item]) -> dict[str, str]:
    """What results say of the data: repository, revision, and SHA-256 over ids, prompts and targets."""
    source = BENCHMARKS[name].source
    lines = json.dumps([[item.id, item.prompt, item.target] for item in items], ensure_ascii=True)
    return {
        "repo": source.repository,
        "revision": source.revision,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
    }


def _read(benchmark: Benchmark, data_dir: Path | None) -> Iterable[Item]:
    source = benchmark.source
    for row in read_source(source, data_dir, option="--data-dir"):
        try:
            item = benchmark.to_item(row)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            absent = ", ".join(name for name in source.columns if name not in row)
            raise SourceError(
                f"{benchmark.name}: a row cannot be read as an item: {type(error).__name__}: {error}"
                + (f"; its file has no column {absent}." if absent else "."),
                f"Expected {', '.join(source.columns)}: compare with {source.homepage}.",
            ) from error
        if item is not None:
            yield item


def _distinct(found: list[Item]) -> list[Item]:
    """The second item of the same id gets the id `<id>-2`, and so on."""
    seen: Counter[str] = Counter()
    distinct = []
    for item in found:
        seen[item.id] += 1
        distinct.append(item if seen[item.id] == 1 else replace(item, id=f"{item.id}-{seen[item.id]}"))
    return distinct
