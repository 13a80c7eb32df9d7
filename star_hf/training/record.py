"""What a training leaves beside the model: `star_training.json`, which cards and reports are made from."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from ..errors import TrainingError


__all__ = ["RECORD", "TrainingRecord", "load_record"]

RECORD = "star_training.json"


@dataclass(frozen=True)
class TrainingRecord:
    """A finished training.

    Attributes:
        star_hf (`str`): Version of this package.
        base_model (`dict`): `name` and `revision`.
        method (`str`): `"sft"`, `"dpo"` or `"grpo"`.
        mode (`str`): `"paper"` or `"recommended"`.
        datasets (`list[dict]`): `path`, `name`, `split`, `rows` (`None` in a mixture), and `sha256`
            over all rows that were learnt from.
        recipe (`dict`): The options that were given.
        preflight (`dict`): What the check before the training found, such as
            [`~star_hf.training.preflight.Preflight`], as a dictionary.
        log_history (`list[dict]`): What the trainer logged: `step`, `epoch`, `loss`, `learning_rate`, ...
        hardware (`dict`): `device` and `processes`.
        seconds (`float`): How long it took.
        versions (`dict[str, str]`): Of the packages that computed.
    """

    star_hf: str
    base_model: dict[str, Any]
    method: str
    mode: str
    datasets: list[dict[str, Any]]
    recipe: dict[str, Any]
    preflight: dict[str, Any]
    log_history: list[dict[str, Any]] = field(default_factory=list)
    hardware: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def losses(self) -> list[tuple[int, float]]:
        """Step and loss, as logged."""
        return self._logged("loss")

    @property
    def measure(self) -> str:
        """What tells of progress: `"loss"`, or `"reward"` where the loss of a policy gradient says nothing."""
        return "reward" if self.method == "grpo" else "loss"

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Step and `measure`, as logged."""
        return self._logged(self.measure)

    def _logged(self, name: str) -> list[tuple[int, float]]:
        return [(entry["step"], entry[name]) for entry in self.log_history if entry.get(name) is not None]

    def save(self, folder: str | Path) -> Path:
        """Write the record into the model's folder."""
        path = Path(folder) / RECORD
        path.write_text(json.dumps(asdict(self), indent=2, default=str) + "\n", encoding="utf-8")
        return path


def load_record(folder: str | Path) -> TrainingRecord:
    """Read the record of a training's output folder.

    Raises:
        TrainingError: If there is none, or it is not one of ours.
    """
    path = Path(folder) / RECORD
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise TypeError(f"it holds a {type(given).__name__}, expected an object")
        record = TrainingRecord(**given)
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"{folder} has no {RECORD}.", "Name the output folder of recipes/sft.py.") from None
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}.") from None
    if wrong := list(_wrong(record)):
        raise TrainingError(
            f"{path} cannot be read: {'; '.join(wrong)}.", "It is written by the training; do not edit it by hand."
        )
    return record


def _wrong(record: TrainingRecord) -> Iterator[str]:
    """What of a record is not of its type, and what readers count on and do not find."""
    for name, kind in KINDS.items():
        if isinstance(value := getattr(record, name), bool) or not isinstance(value, kind):
            expected = kind.__name__ if isinstance(kind, type) else "number"
            yield f"`{name}` is a {type(value).__name__}, expected a {expected}"
    if isinstance(record.base_model, dict) and not isinstance(record.base_model.get("name"), str):
        yield "`base_model` has no `name`"
    for name, key in (("datasets", "path"), ("log_history", None)):
        entries = getattr(record, name)
        for place, entry in enumerate(entries if isinstance(entries, list) else ()):
            if not isinstance(entry, dict):
                yield f"`{name}[{place}]` is a {type(entry).__name__}, expected a dict"
            elif key and not isinstance(entry.get(key), str):
                yield f"`{name}[{place}]` has no `{key}`"
            elif name == "log_history" and (bad := _not_numbers(entry)):
                yield f"`{name}[{place}]` has no number as `{bad[0]}`"


def _not_numbers(entry: dict[str, Any]) -> list[str]:
    """The values of a logged entry that curves are drawn from and that are no numbers; one may be missing."""
    drawn = [name for name in ("loss", "reward") if entry.get(name) is not None]
    return [name for name in (*drawn, *(("step",) if drawn else ())) if not _is_number(entry.get(name))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


KINDS: dict[str, type | UnionType] = {
    **dict.fromkeys(("star_hf", "method", "mode"), str),
    **dict.fromkeys(("base_model", "recipe", "preflight", "hardware", "versions"), dict),
    **dict.fromkeys(("datasets", "log_history"), list),
    "seconds": int | float,
}
"""The type of each part of a record."""
