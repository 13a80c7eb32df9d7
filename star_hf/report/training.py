"""What the report says of a training run: its curve, its recipe, and what it ran on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import SourceError
from .charts import curve
from .sections import Panel, Section, Table


__all__ = ["training_section"]

FILE = "star_training.json"
CURVES = (
    (
        "Loss",
        "Mean loss of a token, on the training data and, where there is one, on the held-out part.",
        ("loss", "eval_loss"),
    ),
    (
        "Token accuracy",
        "Share of tokens that the model would have written itself.",
        ("mean_token_accuracy", "eval_mean_token_accuracy"),
    ),
)


def training_section(folder: str | Path) -> Section:
    """The training run whose record lies in a folder.

    Args:
        folder (`str` or `Path`): The output directory of a training run.

    Raises:
        SourceError: If it has no readable `star_training.json`.
    """
    record = _load(Path(folder))
    history = record["log_history"]
    panels = []
    for title, text, names in CURVES:
        series = {
            name: [(entry["step"], entry[name]) for entry in history if _number(entry.get(name))] for name in names
        }
        series = {name: points for name, points in series.items() if points}
        if series:
            first = next(iter(series.values()))
            said = f"{text} From {first[0][1]:.4g} to {first[-1][1]:.4g}."
            rows = sorted({step for points in series.values() for step, _ in points})
            values = {name: dict(points) for name, points in series.items()}
            table = Table(
                ("step", *series), tuple((step, *(values[name].get(step) for name in series)) for step in rows)
            )
            panels.append(Panel(title, said, curve(series), table))
    panels.append(Panel("Recipe", "What the run was given and where it ran.", table=_facts(record), folded=True))
    base = record["base_model"].get("name") or "a model"
    steps = max((entry["step"] for entry in history if "step" in entry), default=0)
    rows = sum(dataset.get("rows") or 0 for dataset in record["datasets"])
    lead = (
        f"{base}, {record['method'].upper()} on {rows:,} rows: "
        f"{steps:,} steps in {record['seconds'] / 60:,.1f} minutes."
    )
    return Section("training", "Training", "Training", lead, panels)


def _load(folder: Path) -> Mapping[str, Any]:
    path = folder / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            **record,
            **{name: record[name] for name in ("base_model", "method", "datasets", "log_history", "seconds")},
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SourceError(
            f"{path} cannot be read: {type(error).__name__}: {error}.",
            "Name the output directory of a training run of star_hf.",
        ) from None


def _facts(record: Mapping[str, Any]) -> Table:
    facts: dict[str, Any] = {
        "base model": _at(record["base_model"]),
        "mode": record.get("mode"),
        **{f"data {place}": _at(dataset) for place, dataset in enumerate(record["datasets"], 1)},
    }
    for part in ("recipe", "preflight", "hardware", "versions"):
        facts |= {f"{part}: {name.replace('_', ' ')}": value for name, value in (record.get(part) or {}).items()}
    return Table(
        ("", ""), tuple((name, _text(value)) for name, value in facts.items() if value is not None and value != "")
    )


def _at(place: Mapping[str, Any]) -> str:
    name, revision = place.get("name") or place.get("path"), place.get("revision")
    rows = f", {place['rows']:,} rows" if place.get("rows") else ""
    return f"{place.get('path') or name}{f' at {revision}' if revision else ''}{rows}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")
