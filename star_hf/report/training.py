"""The section of a training: its curves, its recipe, and where it ran."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ..training.record import TrainingRecord, load_record
from ..utils.formatting import readable
from .charts import curve
from .sections import Panel, Section, Table
from .style import spaced


__all__ = ["training_section"]

CURVES = (
    (
        "Loss",
        "Mean loss on the training data and, where there is one, on the held-out part.",
        ("loss", "eval_loss"),
    ),
    (
        "Token accuracy",
        "Share of tokens that the model would have predicted.",
        ("mean_token_accuracy", "eval_mean_token_accuracy"),
    ),
    (
        "Preference",
        "How much more the model prefers the chosen response of a pair than the model before the training.",
        ("rewards/margins", "eval_rewards/margins"),
    ),
    ("Reward", "Mean reward of the model's own completions, from the judges.", ("reward", "eval_reward")),
)


def training_section(folder: str | Path) -> Section:
    """The section of a training, from the record in its output folder."""
    record = load_record(folder)
    panels = [panel for title, text, names in CURVES if (panel := _curve(record, title, text, names)) is not None]
    panels.append(Panel("Recipe", "The options, and where the training ran.", table=_facts(record), folded=True))
    base = record.base_model["name"].rstrip("/").split("/")[-1] or "a model"
    steps = max((entry["step"] for entry in record.log_history), default=0)
    rows = sum(dataset.get("rows") or 0 for dataset in record.datasets)
    lead = f"{base}, {record.method.upper()} on {rows:,} rows: {steps:,} steps in {_duration(record.seconds)}."
    return Section("training", "Training", "Training", lead, panels)


def _duration(seconds: float) -> str:
    """A duration in the unit that fits, such as `2.5 minutes`."""
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def _curve(record: TrainingRecord, title: str, text: str, names: tuple[str, ...]) -> Panel | None:
    series = {
        name: {entry["step"]: entry[name] for entry in record.log_history if _is_finite(entry.get(name))}
        for name in names
    }
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    values = list(next(iter(series.values())).values())
    steps = sorted({step for points in series.values() for step in points})
    table = Table(
        ("step", *map(spaced, series)),
        tuple((step, *(points.get(step) for points in series.values())) for step in steps),
        digits=4,
    )
    picture = curve({name: list(points.items()) for name, points in series.items()})
    return Panel(title, f"{text} From {values[0]:.4g} to {values[-1]:.4g}.", picture, table)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)


def _facts(record: TrainingRecord) -> Table:
    facts = [("base model", "", _described(record.base_model)), ("mode", "", record.mode)]
    facts += [("data", dataset.get("split") or "", _described(dataset)) for dataset in record.datasets]
    for part in ("recipe", "preflight", "hardware", "versions"):
        facts += [(part, spaced(name), value) for name, value in getattr(record, part).items()]
    rows, last = [], None
    for part, name, value in facts:
        if value not in (None, "", [], {}):
            rows.append((part if part != last else "", name, readable(value)))
            last = part
    return Table(("", "", ""), tuple(rows))


def _described(place: Mapping[str, Any]) -> str:
    """`org/data at 1a2b3c, 1,000 rows`"""
    revision = f" at {place['revision']}" if place.get("revision") else ""
    rows = f", {place['rows']:,} rows" if place.get("rows") else ""
    return f"{place.get('path') or place.get('name')}{revision}{rows}"
