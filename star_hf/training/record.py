"""What a training leaves beside the model: `star_training.json`, which cards and reports are made from."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
        method (`str`): `"sft"`.
        mode (`str`): `"paper"` or `"recommended"`.
        datasets (`list[dict]`): `path`, `name`, `split`, `rows` (`None` in a mixture), and `sha256`
            over all rows that were learnt from.
        recipe (`dict`): The options that were given.
        preflight (`dict`): [`~star_hf.training.preflight.Preflight`] as a dictionary.
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
        return [(entry["step"], entry["loss"]) for entry in self.log_history if "loss" in entry]

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
        return TrainingRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        raise TrainingError(f"{folder} has no {RECORD}.", "Name the output folder of recipes/sft.py.") from None
    except (TypeError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}.") from None
