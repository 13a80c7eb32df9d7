"""The rounds as one page in the style of the report: safety, over-refusal and reasoning, rule by rule."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from ..evaluation.comparison.compare import WORDS
from ..evaluation.results.results import AVERAGES
from ..evaluation.results.statistics import Estimate
from ..report.page import Fact, render_page
from ..report.rates import intervals
from ..report.sections import Panel, Section, Table
from ..utils.files import write_text
from ..utils.formatting import percent
from .ledger import Ledger
from .loop import Improvement, Round


__all__ = ["write_page"]

Rates = dict[str, dict[str, Estimate]]


def write_page(done: Improvement, output: str | Path | None = None) -> Path:
    """Write the page, `<run>/report.html` by default. It has no texts of cases, and loads nothing over the network."""
    path = done.folder / "report.html" if output is None else Path(output)
    rounds, last = done.rounds, done.rounds[-1]
    overall = [each.measured.suite.overall.estimate for each in (rounds[0], last)]
    facts = [
        Fact("rounds", str(len(rounds) - 1)),
        Fact("sealed cases passed", " → ".join(percent(each.value) for each in overall), "percent"),
        Fact("rows trained on", f"{last.trained_on:,}"),
    ]
    page = render_page(
        "improve.html.j2",
        [_balance(rounds), _units(rounds), _rows(rounds), _criteria(rounds)],
        (),
        Path(__file__).parent,
        name=done.folder.name,
        folder=done.folder,
        summary=f"{last.measured.suite.name}, {last.measured.model}",
        verdict=f"Ship {last.measured.name}." if done.shipped else "No model ships.",
        reason=last.step.reason,
        config=yaml.safe_dump(Ledger(done.folder)["config"], sort_keys=False, allow_unicode=True),
        facts=facts,
    )
    write_text(path, page)
    return path


def _balance(rounds: Sequence[Round]) -> Section:
    """Safety, over-refusal and reasoning of each round."""
    rates: Rates = {}
    for each in rounds:
        measured = each.measured
        rates[measured.name] = {
            "sealed cases passed": measured.suite.overall.estimate,
            "harmless sealed cases passed": measured.harmless.estimate,
            **{kind: mean.estimate for kind, mean in measured.results.averages.items() if kind in AVERAGES},
        }
    text = "Further right is better, but for over-refusal. Whiskers are 95 % intervals."
    lead = "What each round gained in safety, and what it cost in refusals of harmless questions and in reasoning."
    panel = Panel("All rounds", text, intervals(rates), _table(rates, "measure"))
    return Section("balance", "Balance", "Safety, over-refusal, reasoning", lead, [panel])


def _units(rounds: Sequence[Round]) -> Section:
    rates = {
        each.measured.name: {unit: rate.estimate for unit, rate in each.measured.units.items()} for each in rounds
    }
    targets = rounds[0].measured.target
    table = _table(rates, "rule or category")
    table = Table(
        (*table.head, "target"),
        tuple((*row, percent(targets[unit])) for row, unit in zip(table.rows, targets, strict=True)),
    )
    text = "A rule is done when the left end of its interval reaches its target."
    panel = Panel("Pass rates on the sealed half", text, intervals(rates), table)
    lead = "The sealed half only ever tests: no row that was trained on is like one of its cases."
    return Section("rules", "Rules", "Rule by rule", lead, [panel])


def _rows(rounds: Sequence[Round]) -> Section:
    rows = [
        (each.measured.name, ref, quota.rows, each.made[ref].rows, each.made[ref].harmless)
        for each in rounds[1:]
        for ref, quota in each.quotas.items()
    ]
    head = ("round", "rule", "rows wanted", "rows made", "harmless ones")
    panel = Panel("", "", table=Table(head, tuple(rows)))
    lead = "The rows that each round added, by rule. What could not be used is in the folder of the round."
    return Section("rows-added", "Rows", "New rows", lead, [panel] if rows else [])


def _criteria(rounds: Sequence[Round]) -> Section:
    panels = [
        Panel(
            each.measured.name,
            each.step.reason,
            table=Table(
                ("criterion", "passes", "found"),
                tuple((check.name, WORDS[check.passed], check.detail) for check in each.step.checks),
            ),
        )
        for each in rounds
    ]
    lead = "A model ships when all criteria pass. What was not measured does not pass."
    return Section("criteria", "Decision", "What was decided", lead, panels)


def _table(rates: Rates, corner: str) -> Table:
    names = list(dict.fromkeys(name for found in rates.values() for name in found))
    missing = Estimate(None, None, None, 0)
    rows = tuple((name, *(found.get(name, missing).percent() for found in rates.values())) for name in names)
    return Table((corner, *rates), rows)
