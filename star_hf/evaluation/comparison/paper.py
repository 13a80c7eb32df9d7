"""The ledger: a model's results beside the paper's numbers for the same model, with a verdict on each.

`paper.yaml` has every cell of the paper's Tables 1 to 3. Each is a rate over a stated number of items, so it has an
interval like ours. Two rates agree if the interval of their difference is within a margin, differ if it excludes zero,
and otherwise there are too few items to tell, as with the 30 problems of AIME.
"""

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ...utils.options import read_yaml
from ..results.results import AVERAGES, Results
from ..results.statistics import Estimate, difference_of, mean_of, wilson
from ..tasks.benchmarks import BENCHMARKS


__all__ = [
    "ABSENT",
    "AGREES",
    "DIFFERS",
    "UNCLEAR",
    "Line",
    "PaperComparison",
    "PaperRow",
    "ledger",
    "paper_row",
    "paper_rows",
]

DATA = Path(__file__).with_name("paper.yaml")

AGREES, DIFFERS, UNCLEAR, ABSENT = "agrees", "differs", "too few items to tell", "not in the paper"

MARGIN = 0.1
"""Largest difference of two rates that agree."""


@dataclass(frozen=True)
class PaperRow:
    """A row of one of the paper's tables, such as `"7b-star-1"`.

    Attributes:
        model (`str` or `None`): The model on the Hub, where there is one.
        cells (`dict[str, Estimate]`): Per benchmark the rate, 0 to 1, with its interval.
        averages (`dict[str, float]`): The paper's own `"safety"` and `"reasoning"`, 0 to 1.
    """

    name: str
    table: str
    model: str | None
    cells: dict[str, Estimate]
    averages: dict[str, float]

    def average(self, benchmarks: tuple[str, ...]) -> Estimate:
        """The unweighted mean over some of its benchmarks."""
        return mean_of([self.cells[name] for name in benchmarks])


@dataclass(frozen=True)
class Line:
    """The rate of a benchmark, or of an average such as `"safety"`, beside the paper's: ours minus theirs."""

    name: str
    ours: Estimate
    paper: Estimate | None
    difference: Estimate | None
    verdict: str

    @property
    def numbers(self) -> tuple[str, str, str]:
        """Ours, the paper's and the difference, in percent."""
        paper = self.paper.percent(interval=False) if self.paper else ""
        return self.ours.percent(), paper, self.difference.percent(sign=True) if self.difference else ""


@dataclass(frozen=True)
class PaperComparison:
    """A model's results beside a row of the paper: benchmarks in the paper's order, then averages."""

    model: str
    row: PaperRow
    lines: tuple[Line, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As a `dict` for JSON."""
        lines = [asdict(line) for line in self.lines]
        row = {"name": self.row.name, "table": self.row.table, "model": self.row.model}
        return {"model": self.model, "row": row, "lines": lines, "notes": list(self.notes)}

    def to_markdown(self) -> str:
        """As Markdown, in percent."""
        head = [
            f"**{self.model}** beside `{self.row.name}` ({self.row.table}), in percent",
            "",
            "| | ours | paper | difference | |",
            "|---|---:|---:|---:|---|",
        ]
        body = [f"| {' | '.join((line.name, *line.numbers, line.verdict))} |" for line in self.lines]
        return "\n".join([*head, *body, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"


def paper_row(wanted: str) -> PaperRow:
    """The row of a name, or of a model: its Hub id, or a path that ends like it. Else a [`ConfigError`]."""
    rows = paper_rows()
    if wanted in rows:
        return rows[wanted]
    last = wanted.rstrip("/").rsplit("/", 1)[-1].casefold()
    for row in rows.values():
        if row.model and row.model.rsplit("/", 1)[-1].casefold() == last:
            return row
    raise ConfigError(
        f"The paper has no row for {wanted!r}.",
        f"Choose the row to compare with, --row NAME: {', '.join(rows)}.",
    )


def ledger(results: Results, row: str | None = None, margin: float = MARGIN) -> PaperComparison:
    """Compare results with the paper's. For reasoning, failures of the model itself count as wrong, as in the paper.

    Args:
        row (`str`, *optional*): A name of `paper_rows()`; by default that of the model's name.
        margin (`float`, defaults to 0.1): Largest difference of two rates that agree.
    """
    paper = paper_row(row or results.model["name"])
    lines = [_line(name, each.comparable, paper.cells.get(name), margin) for name, each in results.benchmarks.items()]
    for kind in AVERAGES:
        if common := tuple(name for name in AVERAGES[kind] if name in results.benchmarks and name in paper.cells):
            ours = mean_of([results.benchmarks[name].comparable for name in common])
            lines.append(_line(f"mean {kind} ({len(common)})", ours, paper.average(common), margin))
    return PaperComparison(results.model["name"], paper, tuple(lines), tuple(_notes(results, paper)))


def _line(name: str, ours: Estimate, paper: Estimate | None, margin: float) -> Line:
    if paper is None or paper.value is None:
        return Line(name, ours, None, None, ABSENT)
    difference = difference_of(paper, ours)
    if difference.value is None:
        verdict = UNCLEAR
    elif difference.low > 0 or difference.high < 0:
        verdict = DIFFERS
    else:
        verdict = AGREES if -margin <= difference.low and difference.high <= margin else UNCLEAR
    return Line(name, ours, paper, difference, verdict)


def _notes(results: Results, paper: PaperRow) -> list[str]:
    notes = []
    if results.profile != "paper":
        notes.append(f"Profile `{results.profile}`: the paper decoded greedily with a repetition penalty of 1.2.")
    if attack := results.generation.get("attack"):
        notes.append(f"Under the attack `{attack}`; the paper has no attack.")
    shared = {name: each for name, each in results.benchmarks.items() if name in paper.cells}
    judges = {each.judge for each in shared.values() if each.kind == "safety" and each.judge}
    if other := sorted(judge for judge in judges if not judge.startswith("llama-guard")):
        notes.append(f"Judged by {', '.join(other)}; the paper's judge is Llama Guard.")
    if "wildchat" in shared:
        notes.append("WildChat: drawn by the same rule from the public edition; the paper's 370 items are not public.")
    for name, each in shared.items():
        if name != "wildchat" and each.items < 0.95 * paper.cells[name].n:
            notes.append(f"{name}: {each.items} items of the paper's {paper.cells[name].n}.")
        if each.failures:
            notes.append(f"{name}: without a value are {each.reasons}.")
    return notes


@cache
def paper_rows() -> dict[str, PaperRow]:
    """All rows of the paper's tables by name, in its order."""
    data = read_yaml(DATA)
    items = {each.name: each.paper_items for each in BENCHMARKS.values() if each.paper_items is not None}
    rows = {}
    for table in data["tables"]:
        for row in table["rows"]:
            percents = dict(zip(table["columns"], row["cells"], strict=True))
            rows[row["name"]] = PaperRow(
                name=row["name"],
                table=table["title"],
                model=row.get("model"),
                cells={name: _cell(percents[name], n) for name, n in items.items() if name in percents},
                averages={name: percent / 100 for name, percent in percents.items() if name not in items},
            )
    return rows


def _cell(percent: float, n: int) -> Estimate:
    """A printed percentage as a rate with its interval."""
    interval = wilson(round(percent * n / 100), n)
    return Estimate(percent / 100, interval.low, interval.high, n)
