"""What the report says of a training run: its curve, its recipe, and what it ran on."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from ..training.record import TrainingRecord, load_record
from .charts import curve
from .sections import Panel, Section, Table


__all__ = ["training_section"]

CURVES = (
    (
        "Loss",
        "Mean loss on the training data and, where there is one, on the held-out part.",
        ("loss", "eval_loss"),
    ),
    (
        "Token accuracy",
        "Share of tokens that the model would have written itself.",
        ("mean_token_accuracy", "eval_mean_token_accuracy"),
    ),
    (
        "Preference",
        "By how much more the model prefers the better answer of a pair than the model that it started from.",
        ("rewards/margins", "eval_rewards/margins"),
    ),
    ("Reward", "What its own answers were worth to the judges.", ("reward", "eval_reward")),
)


def training_section(folder: str | Path) -> Section:
    """The training run whose record lies in a folder.

    Args:
        folder (`str` or `Path`): The output directory of a training run.

    Raises:
        TrainingError: If it has no readable `star_training.json`.
    """
    record = load_record(folder)
    panels = [panel for title, text, names in CURVES if (panel := _curve(record, title, text, names)) is not None]
    panels.append(Panel("Recipe", "What the run was given and where it ran.", table=_facts(record), folded=True))
    return Section("training", "Training", "Training", _lead(record), panels)


def _lead(record: TrainingRecord) -> str:
    base = str(record.base_model.get("name") or "a model").rstrip("/").split("/")[-1]
    steps = max((entry["step"] for entry in record.log_history if "step" in entry), default=0)
    rows = sum(dataset.get("rows") or 0 for dataset in record.datasets)
    return f"{base}, {record.method.upper()} on {rows:,} rows: {steps:,} steps in {_duration(record.seconds)}."


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.1f} seconds"


def _curve(record: TrainingRecord, title: str, text: str, names: tuple[str, ...]) -> Panel | None:
    series = {
        name: {entry["step"]: entry[name] for entry in record.log_history if _number(entry.get(name))}
        for name in names
    }
    series = {name: each for name, each in series.items() if each}
    if not series:
        return None
    values = list(next(iter(series.values())).values())
    steps = sorted({step for each in series.values() for step in each})
    table = Table(
        ("step", *(name.replace("_", " ") for name in series)),
        tuple((step, *(each.get(step) for each in series.values())) for step in steps),
        digits=4,
    )
    picture = curve({name: list(each.items()) for name, each in series.items()})
    return Panel(title, f"{text} From {values[0]:.4g} to {values[-1]:.4g}.", picture, table)


def _facts(record: TrainingRecord) -> Table:
    facts = [("base model", "", _at(record.base_model)), ("mode", "", record.mode)]
    facts += [("data", dataset.get("split") or "", _at(dataset)) for dataset in record.datasets]
    for part in ("recipe", "preflight", "hardware", "versions"):
        facts += [(part, name.replace("_", " "), value) for name, value in getattr(record, part).items()]
    rows = [(part, name, _text(value)) for part, name, value in facts if value not in (None, "", [], {})]
    shown = [part if place == 0 or rows[place - 1][0] != part else "" for place, (part, _, _) in enumerate(rows)]
    return Table(("", "", ""), tuple((part, *row[1:]) for part, row in zip(shown, rows, strict=True)))


def _at(place: Mapping[str, Any]) -> str:
    """`org/data at 1a2b3c, 1,000 rows`."""
    revision = f" at {place['revision']}" if place.get("revision") else ""
    rows = f", {place['rows']:,} rows" if place.get("rows") else ""
    return f"{place.get('path') or place.get('name')}{revision}{rows}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and isfinite(value)
