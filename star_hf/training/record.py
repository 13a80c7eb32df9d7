"""What a training leaves beside the model: `star_training.json`, from which cards and reports are made."""

import json
from pathlib import Path
from typing import Any, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from ..errors import TrainingError
from ..utils.files import read_json, write_text
from ..utils.options import Strict, validated


__all__ = ["RECORD", "TrainingRecord", "load_record"]

RECORD = "star_training.json"


_OPEN = ConfigDict(extra="allow", strict=True)


@with_config(_OPEN)
class _BaseModel(TypedDict):
    name: str


@with_config(_OPEN)
class _Origin(TypedDict):
    path: str
    rows: NotRequired[int | None]


@with_config(_OPEN)
class _LogEntry(TypedDict):
    step: int | float
    loss: NotRequired[float | None]
    reward: NotRequired[float | None]


class TrainingRecord(Strict):
    """A finished training.

    Attributes:
        star_hf (`str`): Version of this package.
        base_model (`dict`): `name` and `revision`.
        method (`str`): `"sft"`, `"dpo"` or `"grpo"`.
        mode (`str`): `"paper"` or `"recommended"`.
        datasets (`list[dict]`): `path`, `name`, `split`, `rows` (`None` in a mixture), and `sha256` over all rows
            trained on.
        recipe (`dict`): The options of the training.
        preflight (`dict`): What the pre-flight check found ([`~star_hf.training.preflight.Preflight`]).
        log_history (`list[dict]`): What the trainer logged: `step`, `epoch`, `loss`, `learning_rate`, ...
        hardware (`dict`): `device` and `processes`.
        seconds (`float`): Duration.
        versions (`dict[str, str]`): Versions of the packages that computed.
    """

    model_config = ConfigDict(strict=True)

    star_hf: str
    base_model: _BaseModel
    method: str
    mode: str
    datasets: list[_Origin]
    recipe: dict[str, Any]
    preflight: dict[str, Any]
    log_history: list[_LogEntry] = []
    hardware: dict[str, Any] = {}
    seconds: float = 0.0
    versions: dict[str, Any] = {}

    @property
    def measure(self) -> str:
        """What shows progress: `"loss"`, or `"reward"` for GRPO, since the loss of a policy gradient does not."""
        return "reward" if self.method == "grpo" else "loss"

    @property
    def curve(self) -> list[tuple[float, float]]:
        """Step and `measure`, as logged."""
        name = self.measure
        return [(entry["step"], entry[name]) for entry in self.log_history if entry.get(name) is not None]

    def to_json(self) -> str:
        """The record as the text of its file."""
        return json.dumps(self.model_dump(), indent=2, default=str) + "\n"

    def save(self, folder: str | Path) -> None:
        """Write the record into the model's folder."""
        write_text(Path(folder) / RECORD, self.to_json())


def load_record(folder: str | Path) -> TrainingRecord:
    """Read the record in a training's output folder.

    Raises:
        [`TrainingError`]: If there is no record, or it is damaged or was edited.
    """
    path = Path(folder) / RECORD
    remedy = (
        "The training writes this file; do not edit it by hand. Take it from a backup or from the published model, or "
        "run the same training with `resume_from_checkpoint: true`: after its last checkpoint it is written again."
    )
    if not path.is_file():
        raise TrainingError(f"{folder} has no {RECORD}.", "Name the output folder of a training.")
    return validated(TrainingRecord, read_json(path, remedy, TrainingError), path, remedy, TrainingError)
