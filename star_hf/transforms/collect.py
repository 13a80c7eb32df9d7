"""Turn the catalogue's sources and the user's own questions into rows (paper, Section 2.1)."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from datasets import Dataset, Features, Value, concatenate_datasets
from datasets.utils import tqdm

from ..errors import ConfigError, IncompleteRunError, SourceError
from ..llm.step import FAILURE, as_batch, column_of, refuse_filter
from ..schema import COLLECTED, PROVENANCE, REMOVED, Outcome, as_dataset, removal
from ..sources.catalogue import Source, catalogue
from ..sources.held_out import HeldOutSet, own_held_out_set, read_held_out_set
from ..sources.readers import PROFILES, Drop, Reader, readers_of
from ..sources.reading import MissingSourceError, read_own_texts, read_source, read_takes
from ..utils.text import is_blank, row_id


__all__ = ["Collected", "Questions", "collect"]

logger = logging.getLogger(__name__)

STAGE = "collect"
MAX_CHARS = 20_000
"""Longest question. No source of the paper has a longer one, so both profiles use it."""


@dataclass(frozen=True)
class Questions:
    """Turns the rows of any data set into `id`, `question`, `source` and `failure`, with `batched=True`.

    `failure` is `"empty"` or `"too_long"`, and null for a usable question.

    Args:
        source (`str`): The data set's name.
        column (`str`, defaults to `"question"`): The column with the questions.
        max_chars (`int`, defaults to 20,000): Longest question.

    Example:

    ```python
    >>> from datasets import Dataset
    >>> rows = Dataset.from_dict({"prompt": ["What is a lock?", " "]})
    >>> rows.map(Questions("mine", "prompt"), batched=True, remove_columns=["prompt"])["failure"][:]
    [None, 'empty']
    ```
    """

    source: str
    column: str = "question"
    max_chars: int = MAX_CHARS

    added = Features({**COLLECTED, FAILURE: Value("string")})

    def __call__(self, batch: Mapping[str, list]) -> dict[str, list]:
        """The columns of `added` for a batch of rows.

        Raises:
            ConfigError: If it is called for single rows, or the column is missing.
            SourceError: If a question is not text.
        """
        refuse_filter(self)
        values = column_of(batch, self.column, f"Name the column: `Questions({self.source!r}, NAME)`.")
        if not isinstance(values, list):
            raise ConfigError("Questions takes batches of rows, not single ones.", "Use `.map(..., batched=True)`.")
        texts = [_checked(text, self.source) for text in values]
        columns = {
            "id": [row_id(text) for text in texts],
            "question": texts,
            "source": [self.source] * len(texts),
            FAILURE: [_problem(text, self.max_chars) for text in texts],
        }
        return as_batch(columns, self.added)


@dataclass(frozen=True)
class Collected:
    """What `collect` returns.

    Attributes:
        outcome ([`Outcome`]): The rows, as `COLLECTED` and in catalogue order; `removed` has the reason `"empty"`,
            `"too_long"` or that of the source's reader (`"contextual"`, `"benign"`, ...).
        held_out ([`~datasets.Dataset`]): The benchmarks' questions, as `COLLECTED`; `source` is the benchmark's name.
        missing (`dict[str, str]`): Sources and benchmarks that could not be read: the reason and what to do.
        protected (`dict[str, dict]`): Place, revision, licence and texts per field of each held-out benchmark.
    """

    outcome: Outcome
    held_out: Dataset
    missing: dict[str, str]
    protected: dict[str, dict[str, Any]]


def collect(
    *,
    profile: str = "recommended",
    sources: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    sources_dir: Path | None = None,
    require_all: bool = False,
    questions: Path | None = None,
    held_out_questions: Path | None = None,
    max_chars: int = MAX_CHARS,
) -> Collected:
    """Read the training sources and the held-out benchmarks.

    Args:
        profile (`str`, defaults to `"recommended"`): `"recommended"`, or `"paper"` to read as STAR-1 did: the benign
            rows of wildjailbreak stay in, and WildChat is not held out.
        sources (`Sequence[str]`, *optional*): Training sources to read; all by default.
        held_out (`Sequence[str]`, *optional*): Benchmarks to hold out; all by default.
        sources_dir (`Path`, *optional*): Folder of local copies, `<sources_dir>/<name>/<file>`, to read instead of the
            Hub.
        require_all (`bool`, defaults to `False`): Fail if a source cannot be read, instead of continuing without it.
        questions (`Path`, *optional*): The user's own questions, added last: a `.txt` file with one per line, or
            `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` with a column `question` and optionally `source` (the
            file's stem by default). Rows that cannot be read are removed as `unreadable`.
        held_out_questions (`Path`, *optional*): The user's own benchmark, in the same formats.
        max_chars (`int`, defaults to 20,000): Longer questions are removed as `too_long`. Benchmarks have no limit.

    Raises:
        [`ConfigError`]: If a profile or source is unknown.
        [`SourceError`]: If a file is invalid, something is missing and `require_all` is set, or no source can be read.
        [`IncompleteRunError`]: If the network is down, so that no source can be read.
    """
    if profile not in PROFILES:
        raise ConfigError(f"Unknown profile `{profile}`.", f"Profiles: {', '.join(PROFILES)}.")
    readers = readers_of(profile)
    chosen = _choose("train", sources, readers) + _choose("held_out", held_out, readers)
    rows: list[Dataset] = []
    removed: list[Dataset] = []
    missing: dict[str, str] = {}
    benchmarks: list[HeldOutSet] = []
    down: list[Source] = []
    for source in tqdm(chosen, desc="Collecting", unit=" sources"):
        try:
            if source.role == "held_out":
                benchmarks.append(read_held_out_set(source, readers[source.name], sources_dir))
            else:
                takes = read_takes(source, readers[source.name], read_source(source, sources_dir))
                lists = (take if isinstance(take, list) else [take] for take in takes)
                kept, gone = _sort_out(((source.name, item) for items in lists for item in items), max_chars)
                rows.append(kept)
                removed.append(gone)
        except MissingSourceError as error:
            missing[source.name] = str(error)
            if error.down:
                down.append(source)
            else:
                logger.warning(
                    "%s is %s: %s", source.name, "not held out" if source.role == "held_out" else "left out", error
                )
    if down:
        logger.warning("The network is down, or servers are: %s", _left_out(down))
    if missing and require_all:
        listing = "\n".join(f"- {name}: {reason}" for name, reason in missing.items())
        raise SourceError(
            f"{len(missing)} sources cannot be read:\n{listing}", "Omit `--require-all` to continue without them."
        )
    training = {source.name for source in chosen if source.role == "train"}
    if training and training <= set(missing) and questions is None:
        kind = IncompleteRunError if training <= {source.name for source in down} else SourceError
        raise kind(
            f"No source could be read, so there are no questions: {', '.join(sorted(training))}.",
            "Check the network, or put local copies at DIR/SOURCE/FILE and pass --sources-dir DIR, or give questions "
            "of your own.",
        )
    if questions is not None:
        own = Path(questions)
        refused: list[str] = []
        texts = (((row.get("source") or "").strip() or own.stem, text) for row, text in read_own_texts(own, refused))
        unread = ((own.stem, Drop("unreadable", "", place)) for place in refused)  # filled once the texts are read
        kept, gone = _sort_out(chain(texts, unread), max_chars)
        rows.append(kept)
        removed.append(gone)
    if held_out_questions is not None:
        benchmarks.append(own_held_out_set(Path(held_out_questions).stem, Path(held_out_questions)))
    outcome = Outcome(
        rows=concatenate_datasets([as_dataset([], COLLECTED), *rows]),
        removed=concatenate_datasets([as_dataset([], REMOVED), *removed]),
        provenance=as_dataset([], PROVENANCE),
    )
    protected = [_sort_out(((item.name, text) for text in item.texts), max_chars=None)[0] for item in benchmarks]
    return Collected(
        outcome=outcome,
        held_out=concatenate_datasets([as_dataset([], COLLECTED), *protected]),
        missing=missing,
        protected={benchmark.name: benchmark.to_dict() for benchmark in benchmarks},
    )


def _choose(
    role: Literal["train", "held_out"], names: Sequence[str] | None, readers: dict[str, Reader]
) -> list[Source]:
    """The chosen sources of a role, in catalogue order."""
    known = {name: source for name, source in catalogue().items() if source.role == role and name in readers}
    if names is None:
        return list(known.values())
    if isinstance(names, str):
        raise ConfigError(f"The {role} sources are one text, {names!r}.", f"Give a list: [{names!r}].")
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"Unknown {role} sources in this profile: {', '.join(unknown)}.", f"Known sources: {', '.join(known)}."
        )
    return [source for name, source in known.items() if name in names]


def _left_out(down: Sequence[Source]) -> str:
    """Which sources are left out, and which benchmarks are not held out, in one sentence."""
    said = {"train": "left out", "held_out": "not held out"}
    names = {role: ", ".join(source.name for source in down if source.role == role) for role in said}
    return "; ".join(f"{text} {names[role]}" for role, text in said.items() if names[role]) + "."


def _sort_out(items: Iterable[tuple[str, str | Drop]], max_chars: int | None) -> tuple[Dataset, Dataset]:
    """Separate usable questions from those that are dropped, empty or too long."""
    rows, removed = [], []
    for name, item in items:
        question = _checked(item.question if isinstance(item, Drop) else item, name)
        row = {"id": row_id(question), "question": question, "source": name}
        if reason := item.reason if isinstance(item, Drop) else _problem(question, max_chars):
            removed.append(removal(row, STAGE, reason, detail=item.detail if isinstance(item, Drop) else None))
        else:
            rows.append(row)
    return as_dataset(rows, COLLECTED), as_dataset(removed, REMOVED)


def _checked(text: str | None, source: str) -> str:
    if not isinstance(text, str | None):
        raise SourceError(
            f"{source}: a question has the type {type(text).__name__} instead of text.",
            "Store questions as strings; a csv column of numbers is read as numbers.",
        )
    return text or ""


def _problem(question: str, max_chars: int | None) -> str | None:
    if is_blank(question):
        return "empty"
    return "too_long" if max_chars is not None and len(question) > max_chars else None
