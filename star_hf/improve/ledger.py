"""The ledger of a run over all rounds: what each stage was made of and left, so that it need not run again.

```
runs/improve/
  ledger.json           configuration, stages, and what was decided after each round
  journal.sqlite        every response of every model
  round-0/results/      the base model, as a results folder of `star-hf evaluate`
  round-1/cases.yaml    the questions of the round      removed.parquet  those left out
  round-1/rows.parquet  answered and scored, the ones to train on
  round-1/train.jsonl   all rows so far
  round-1/model/        what the trainer left           model.log
  round-1/results/
  report.html
```
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import StarError
from ..utils.files import digest, made_folder, read_json, sha256_of, write_json
from ..utils.options import validated


__all__ = ["FILE", "Entry", "Ledger"]

FILE = "ledger.json"


@dataclass(frozen=True)
class Entry:
    """A finished stage.

    Attributes:
        fingerprint (`str`): Hash of what it was made of.
        outputs (`dict[str, str]`): SHA-256 of what it left, by path in the run's folder.
        notes (`dict`): What it has to say, such as counts.
        seconds (`float`): How long it took.
    """

    fingerprint: str
    outputs: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Ledger:
    """The ledger in a run's folder, which is created if it does not exist."""

    def __init__(self, folder: str | Path):
        self.folder = made_folder(folder).resolve()
        self.path = self.folder / FILE
        self.journal = self.folder / "journal.sqlite"
        remedy = f"Delete {self.path}: the same command makes it again, with all responses in the journal."
        self._remedy = remedy
        found = read_json(self.path, remedy) if self.path.exists() else {}
        self._stages = validated(dict[str, Entry], found.get("stages", {}), self.path, remedy, StarError)
        self._data = found

    def __getitem__(self, name: str) -> Any:
        return self._data.get(name)

    def round_folder(self, number: int) -> Path:
        """The folder of a round."""
        return self.folder / f"round-{number}"

    @property
    def stages(self) -> Mapping[str, Entry]:
        """The finished stages by name, such as `"round-1 train"`."""
        return self._stages

    def write(self, **parts: Any) -> None:
        """Replace parts of the ledger, such as `config`, and write it."""
        self._data = {**self._data, **parts, "stages": {name: asdict(entry) for name, entry in self._stages.items()}}
        write_json(self.path, self._data)

    def stage(
        self,
        name: str,
        made_of: Mapping[str, Any],
        outputs: Iterable[Path],
        make: Callable[[], Mapping[str, Any]],
        hash_of: Callable[[Path], str] = sha256_of,
    ) -> Entry:
        """Run a stage, unless it has run on the same and its outputs are as it left them.

        Args:
            made_of (`dict`): All that can change its outputs, as JSON values.
            outputs (`Iterable[Path]`): What it leaves in the run's folder.
            make (`Callable`): Does the work and returns the notes.
            hash_of (`Callable`): The hash of an output; that of a file by default.
        """
        fingerprint, outputs = digest({"stage": name, **made_of}), list(outputs)
        done = self._stages.get(name)
        if done is not None and done.fingerprint == fingerprint and self._hashes(outputs, hash_of) == done.outputs:
            return done
        started = time.monotonic()
        notes = dict(make())
        hashes = self._hashes(outputs, hash_of)
        if hashes is None:
            raise StarError(f"The stage {name!r} did not write {', '.join(map(str, outputs))}.", self._remedy)
        self._stages[name] = Entry(fingerprint, hashes, notes, round(time.monotonic() - started, 2))
        self.write()
        return self._stages[name]

    def _hashes(self, outputs: Iterable[Path], hash_of: Callable[[Path], str]) -> dict[str, str] | None:
        try:
            return {path.relative_to(self.folder).as_posix(): hash_of(path) for path in outputs}
        except (OSError, StarError):
            return None
