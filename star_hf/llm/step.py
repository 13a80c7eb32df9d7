"""An annotator that is also the function of a `Dataset.map`."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, Features, Value
from datasets.utils._dill import Pickler, pklregister

from ..errors import ConfigError
from ..schema import rows_of
from ..utils.text import listed
from .annotate import DETAIL, REASON, answers_of, check_share
from .cost.budget import Budget
from .endpoint import Endpoint
from .journal import Journal
from .types import Unusable
from .walk import Walk


__all__ = ["FAILURE", "Step", "TypedList", "as_batch", "checked_rows", "column_of", "refuse_filter"]

FAILURE = "failure"
"""The column with the name of what went wrong with a row; null where nothing did."""


class TypedList(list):
    """The values of a column with their Arrow type: a first batch without values would give the column type null."""

    def __init__(self, values: list[Any], kind: pa.DataType):
        super().__init__(values)
        self._kind = kind

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        array = pa.array(list(self), self._kind)
        if type is None or type == self._kind:
            return array
        if pa.types.is_struct(type) and {field.name for field in type} != {field.name for field in self._kind}:
            raise pa.ArrowInvalid(f"{self._kind} is not {type}")  # a cast would replace the fields by nulls
        return array.cast(type)


def as_batch(columns: Mapping[str, list], features: Features) -> dict[str, list]:
    """What a map over batches returns: the columns, each with its type."""
    schema = features.arrow_schema
    return {name: TypedList(columns[name], schema.field(name).type) for name in features}


def column_of(rows: Mapping[str, Any], name: str, remedy: str) -> Any:
    """A column of a batch, or the field of a row, in Python's own types; a `ConfigError` if that cannot be had."""
    if not isinstance(rows, Mapping):
        raise ConfigError("The rows are a table of another library.", "Use `.with_format(None)` first.")
    if name not in rows:
        raise ConfigError(f"The rows have no column `{name}`; their columns are {listed(rows)}.", remedy)
    value = rows[name]
    return value.tolist() if hasattr(value, "tolist") else value  # the format is "numpy" or "torch"


def checked_rows(rows: Dataset, needs: Mapping[str, str]) -> None:
    """Check that rows are a `Dataset` with these columns, and `id` and `source`, before anything is asked.

    Raises:
        ConfigError: With what adds the column, the value of `needs`.
    """
    if not isinstance(rows, Dataset):
        raise ConfigError(f"The rows are a {type(rows).__name__}, expected a `Dataset`.", "Use `Dataset.from_list`.")
    mapped = "Map `Questions` over the rows first, or use `collect`."
    for name, remedy in {"id": mapped, "source": mapped, **needs}.items():
        if name not in rows.column_names:
            raise ConfigError(
                f"The rows have no column `{name}`; their columns are {listed(rows.column_names) or 'none'}.", remedy
            )
    if "category" in needs and isinstance(rows.features["category"], Value):
        raise ConfigError("The column `category` holds single values.", "Give each row a list of categories.")


def refuse_filter(step: Any) -> None:
    """A `ConfigError` if a step that adds columns is called by `filter`, which would keep rows by their keys."""
    frame = sys._getframe(1)
    while (frame := frame.f_back) is not None:
        if frame.f_code.co_name in FILTERS and frame.f_globals["__name__"].startswith("datasets."):
            raise ConfigError(
                f"{type(step).__name__} adds columns and is no condition of a filter.",
                "Use `.map(step, batched=True).filter(Usable())`.",
            )


FILTERS = {"get_indices_from_mask_function", "add_mask"}
"""The functions of `datasets` that call the condition of a `filter`."""


class Step:
    """Base of annotators that are used as `rows.map(step, batched=True)`.

    The open requests of a batch are answered into the journal first; the columns are read from the journal alone. So
    a killed map pays for nothing twice, with any `num_proc`, in a `DatasetDict` and in an `IterableDataset`. A batch
    is asked as a whole: a larger `batch_size` keeps more requests in flight.

    A row without a usable answer stays: its new columns are null, and its column `failure` has the failure's name,
    such as `"truncated"`. For all other rows `failure` is null. A row that already has a failure is not asked about.

    A subclass has the attributes and methods of [`Annotator`], and `settings`.

    Args:
        endpoint (`Endpoint`, *optional*): The model to ask; only needed to map.
        journal (`Journal` or path, *optional*): Where answers are kept; only needed to map. Other processes open the
            same file.
        max_unusable, max_reasks, accept_unavailable, budget (*optional*): As for [`~star_hf.llm.annotate`]. Shares
            are counted over all rows that this object has seen, and a budget in this process alone.
    """

    stage: str
    features: Features
    needs: Mapping[str, str] = {"question": "Map `Questions` over the rows first."}
    """Columns that a row must have, with what adds them. A null in one is the failure `"empty"`."""

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        journal: Journal | str | Path | None = None,
        *,
        max_unusable: float = 0.02,
        max_reasks: int = 2,
        accept_unavailable: bool | None = None,
        budget: Budget | None = None,
    ):
        if not 0 <= max_unusable <= 1 or max_reasks < 0:
            raise ConfigError(
                f"Invalid limits: {max_unusable=}, {max_reasks=}.",
                "`max_unusable` is a share from 0 to 1, and `max_reasks` a number from 0.",
            )
        for value, kind in ((endpoint, Endpoint), (budget, Budget)):
            if not isinstance(value, kind | None):
                raise ConfigError(f"{value!r} is no {kind.__name__}.", f"Make one: `star_hf.llm.{kind.__name__}`.")
        self.endpoint = endpoint
        self.max_unusable = max_unusable
        self.max_reasks = max_reasks
        self.accept_unavailable = accept_unavailable
        self.budget = budget
        self._journal = journal if isinstance(journal, Journal) else None
        path = journal.path if isinstance(journal, Journal) else journal
        self._path = None if path is None else Path(path).absolute()
        self._process = os.getpid()
        self._seen, self._failures = 0, list[Unusable]()

    @property
    def added(self) -> Features:
        """The columns that a map adds: those of the annotator, and `failure`."""
        return Features({**self.features, FAILURE: Value("string")})

    def settings(self) -> Any:
        """What decides the columns beside the endpoint, as JSON: part of the fingerprint of a map."""
        raise NotImplementedError

    def obstacle(self, row: Mapping[str, Any]) -> str | None:
        """Why a row cannot be asked about: its failure, if it has one."""
        return row.get(FAILURE)

    def finished(self, row: Mapping[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
        """The columns of `added` for a row with a usable answer."""
        return columns

    def __call__(self, batch: Mapping[str, list]) -> dict[str, list]:
        """The columns of `added` for a batch of rows.

        Raises:
            ConfigError: If the step has no endpoint or journal, or is called for single rows.
            IncompleteRunError: If requests stayed unanswered, the budget ended, or too many answers are unusable.
        """
        name = type(self).__name__
        refuse_filter(self)
        if not all(isinstance(column_of(batch, *need), list) for need in self.needs.items()):
            raise ConfigError(f"{name} takes batches of rows, not single ones.", "Use `.map(step, batched=True)`.")
        if self.endpoint is None or self._path is None:
            raise ConfigError(f"{name} has no endpoint or no journal.", f"Use `{name}(endpoint, journal)`.")
        if self.budget is not None and self._process != os.getpid():
            raise ConfigError("A budget counts in one process only.", "Map without `num_proc`, or without a budget.")
        rows = list(rows_of(batch))
        for row in rows:
            if not isinstance(row["question"], str | None):
                kind = type(row["question"]).__name__
                raise ConfigError(f"A question has the type {kind} instead of text.", "Map `Questions` first.")
        found = [{FAILURE: row.get(FAILURE) or self._empty(row) or self.obstacle(row)} for row in rows]
        asked = [place for place, columns in enumerate(found) if columns[FAILURE] is None]
        for place, columns in zip(asked, self._answers([rows[place] for place in asked]), strict=True):
            found[place] = self.finished(rows[place], columns) if columns[FAILURE] is None else columns
        kept = [name for name in self.added if name in batch and name not in (*self.features, FAILURE)]
        found = [{**{name: row[name] for name in kept}, **new} for row, new in zip(rows, found, strict=True)]
        return as_batch({name: [columns.get(name) for columns in found] for name in self.added}, self.added)

    def _empty(self, row: Mapping[str, Any]) -> str | None:
        blank = not (row["question"] or "").strip() or any(row[column] is None for column in self.needs)
        return "empty" if blank else None

    def _answers(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not rows:
            return []
        assert self.endpoint is not None
        with self._open_journal() as journal:
            limits = (self.max_reasks, self.budget, self.max_unusable, self.accept_unavailable)
            walk = Walk(self, self.endpoint, journal, *limits)
            answers = answers_of(walk, Dataset.from_list(rows), progress=False)
        reasons, details = answers[REASON][:], answers[DETAIL][:]
        self._seen += len(rows)
        self._failures += [Unusable(*end) for end in zip(reasons, details, strict=True) if end[0] is not None]
        seen, failures = self._seen, self._failures
        if len(failures) > self.max_unusable * seen:
            self._seen, self._failures = 0, []  # the next map counts anew
        check_share(failures, seen, self.max_unusable, self.stage, journal)
        columns = {name: answers[name][:] for name in self.features} | {FAILURE: reasons}
        return list(rows_of(columns))

    @contextmanager
    def _open_journal(self) -> Iterator[Journal]:
        """The given journal; in another process the same file, since SQLite connections do not survive a fork."""
        if self._journal is not None and self._process == os.getpid():
            yield self._journal
        else:
            assert self._path is not None
            with Journal(self._path) as journal:
                yield journal

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), _Carried(self))


class _Carried:
    """A step in a pickle: for another process all but connections, for a fingerprint only what decides the columns."""

    def __init__(self, step: Step):
        self.step = step

    def __reduce__(self) -> Any:
        return dict, ({**vars(self.step), "_journal": None, "_seen": 0, "_failures": []},)

    def settings(self) -> str:
        step = self.step
        identity = None if step.endpoint is None else step.endpoint.identity()
        limits = [step.max_unusable, step.max_reasks, step.accept_unavailable]
        return json.dumps([step.stage, identity, limits, step.settings()], sort_keys=True)


@pklregister(_Carried)
def _save_settings(pickler: Pickler, carried: _Carried) -> None:
    """How `datasets` pickles a step to compute a fingerprint: without paths, limits on speed, and other state."""
    pickler.save_reduce(str, (carried.settings(),), obj=carried)


def _unpickled(kind: type[Step], attributes: dict[str, Any]) -> Step:
    step = kind.__new__(kind)
    vars(step).update(attributes)
    return step
