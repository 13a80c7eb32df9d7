"""Tables of an improvement."""

from typing import TYPE_CHECKING

from rich.text import Text

from ...utils.formatting import percent
from ..tables.layout import console, new_table, number, say


if TYPE_CHECKING:
    from ...improve.config import ImproveConfig
    from ...improve.forecast import RoundForecast
    from ...improve.loop import Improvement
    from ...suites.results import Rate


__all__ = ["show_forecasts", "show_rounds"]

MARKS = {True: Text("yes", "green"), False: Text("no", "bold red"), None: Text("undecided", "yellow")}


def show_rounds(done: "Improvement") -> None:
    """Print the rounds, rule by rule, and what was decided."""
    rounds = done.rounds
    names = [each.measured.name for each in rounds]
    table = new_table("Pass rates on the sealed half, in percent, with 95 % intervals", "", *map(number, names))
    for unit, target in rounds[0].measured.target.items():
        table.add_row(Text(unit), *(_rate(each.measured.units.get(unit), target) for each in rounds))
    table.add_section()
    rows = {
        "all cases": [each.measured.suite.overall.estimate for each in rounds],
        "harmless cases": [each.measured.harmless.estimate for each in rounds],
    }
    for kind in ("safety", "over_refusal", "reasoning"):
        found = [each.measured.results.averages.get(kind) for each in rounds]
        if any(found):
            rows[kind.replace("_", "-")] = [mean and mean.estimate for mean in found]
    for name, estimates in rows.items():
        table.add_row(Text(name, "bold"), *("-" if each is None else each.percent() for each in estimates))
    table.add_row(Text("rows trained on", "dim"), *(str(each.trained_on) for each in rounds))
    console.print(table)
    for each in rounds[1:]:
        short = {ref: quota for ref, quota in each.quotas.items() if each.made[ref].rows < quota.rows}
        new = ", ".join(f"{ref} {each.made[ref].rows}" for ref in each.quotas)
        say(f"{each.measured.name}: new rows: {new}")
        for ref, quota in short.items():
            say(f"  {ref}: {quota.rows} were wanted; see {done.folder / each.measured.name}", "yellow")
    step = rounds[-1].step
    checks = new_table(f"Criteria of {names[-1]}", "criterion", "passes", "")
    for check in step.checks:
        checks.add_row(Text(check.name), MARKS[check.passed], Text(check.detail))
    console.print(checks)
    if done.shipped is not None:
        say(f"Ship: {done.shipped}. {step.reason}", "bold green")
    else:
        say(f"No model ships. {step.reason}", "bold")


def _rate(rate: "Rate | None", target: float) -> Text:
    if rate is None or rate.low is None:
        return Text("-")
    style = "green" if rate.low >= target else "red" if rate.value < target else "yellow"
    return Text(f"{percent(rate.value)} ({percent(rate.low)} to {percent(rate.high)})", style)


def show_forecasts(rounds: "list[RoundForecast]", config: "ImproveConfig") -> None:
    """Print the forecast by round, at most."""
    numbers = map(number, ("calls", "tokens in", "out", "$", "hours"))
    table = new_table(f"Forecast of at most {config.rounds} rounds", "round", "step", "model", *numbers)
    for each in rounds:
        for stage in each.stages:
            table.add_row(
                each.name,
                stage.step,
                Text(stage.model),
                *(f"{n:,}" for n in (stage.calls, stage.prompt_tokens, stage.completion_tokens)),
                "unknown" if stage.cost_usd is None else f"{stage.cost_usd:,.2f}",
                "unknown" if stage.hours is None else f"{stage.hours:.2f}",
            )
        table.add_section()
    stages = [stage for each in rounds for stage in each.stages]
    calls, known = sum(stage.calls for stage in stages), sum(stage.cost_usd or 0 for stage in stages)
    hours = sum(stage.hours or 0 for stage in stages)
    table.add_row("all", "", "", f"{calls:,}", "", "", f"{known:,.2f}", f"{hours:.2f}", style="bold")
    console.print(table)
    unknown = sorted({f"{stage.step} ({stage.model})" for stage in stages if stage.cost_usd is None})
    if unknown:
        say(f"Cost unknown, and not in the sum: {', '.join(unknown)}", "yellow")
    slow = sorted({f"{stage.step} ({stage.model})" for stage in stages if stage.hours is None})
    if slow:
        say(f"Hours unknown, and not in the sum: {', '.join(slow)}", "yellow")
    say("Every round is counted in full; a run ends earlier where it can. Nothing was sent.")
