"""The results folder. All that is read from it, merged into it and written to it goes through one class."""

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, concatenate_datasets

from ...errors import ConfigError, SourceError
from ...llm.journal import Journal
from ...llm.journal.repair import guarded
from ...schema import as_dataset
from ...utils.files import locked, unwritable, write_table
from ..grading.judges.base import Judge
from ..grading.panel import PANEL
from ..tasks.benchmarks import BENCHMARKS
from ..tasks.profiles import Evaluation
from ..types import RESPONSES, VERDICTS
from .results import FILE, Results, load_results
from .summary import summarise
from .tables import in_order, judge_records, judged_pairs, merged_verdicts, of_benchmarks, on_same


__all__ = ["ResultsFolder"]

logger = logging.getLogger(__name__)

TABLES = {"responses.parquet": RESPONSES, "verdicts.parquet": VERDICTS}
NEWER = {"question", "history"}
"""Columns that a file of an older version lacks."""
DRAFT, NEXT = ".draft", ".next"


class ResultsFolder:
    """The folder of one model's results.

    ```
    results/my-model/recommended/
      journal.sqlite      every answer of the model and every reply of the judges
      responses.parquet   the responses, split into reasoning and answer
      verdicts.parquet    the verdicts of judges, extractors and the panel on them
      results.json        rates with intervals, and failures
    ```

    Work in it happens inside [`~ResultsFolder.working`], one process at a time. The last three files change together:
    after a kill all of them are the old ones, or all are the new ones.

    What stays true when a model is evaluated further, or judged by others:

    - Results of other weights, of another profile or under another system prompt are replaced as a whole. Those of
      safety benchmarks under another attack are replaced when safety benchmarks are run, and those of any benchmark
      that the profile, its file edited or copied, samples in another way now. Limits of the command line, such as its
      samples, are no other way.
    - Verdicts stay for exactly as long as the answers that they are about, each with its own.
    - A judge's verdicts on a benchmark replace its earlier ones.
    - The panel's verdicts are made anew from those of all judges at each change.

    Args:
        path (`str` or `Path`): The folder. It is created by the first work in it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def results(self) -> Results:
        """`results.json`. Raises [`SourceError`] if it is missing or invalid."""
        self._finish_killed()
        return load_results(self.path)

    @property
    def responses(self) -> Dataset:
        """The responses, as `RESPONSES`. Raises [`SourceError`] if they are missing or the file is invalid."""
        return self.table("responses.parquet")

    @property
    def verdicts(self) -> Dataset:
        """The verdicts, as `VERDICTS`. Raises [`SourceError`] if they are missing or the file is invalid."""
        return self.table("verdicts.parquet")

    def table(self, name: str, columns: Sequence[str] | None = None) -> Dataset:
        """Some columns of a table, all by default; those of [`NEWER`] that it lacks are `None`.

        Raises [`SourceError`] if the file is missing or invalid.
        """
        self._finish_killed()
        features = Features({column: TABLES[name][column] for column in columns or TABLES[name]})
        try:
            absent = set(features) - set(pq.read_schema(self.path / name).names)
            if foreign := sorted(absent - NEWER):
                raise pa.ArrowInvalid(f"it has no column {', '.join(foreign)}")
            table = pq.read_table(self.path / name, columns=[column for column in features if column not in absent])
            for column in absent:
                table = table.append_column(column, pa.nulls(len(table)))
            return Dataset(table.select(list(features)).cast(features.arrow_schema))
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"{self.path / name} cannot be read ({error}).",
                f"Name a results folder that `star-hf evaluate` wrote. If it is damaged, delete {self.path / name} "
                f"and {self.path / FILE}: the same command makes them again from the journal, without asking a model.",
            ) from None

    @contextmanager
    def working(self, journal: Path | None = None) -> Iterator[Journal]:
        """Work in the folder, with its journal or another, while other processes are kept out. Its files are checked
        first."""
        with locked(self.path), guarded(journal or self.path / "journal.sqlite") as journal:
            self._finish()
            if (self.path / FILE).exists():  # find damage before anything is paid
                _ = self.results, self.responses, self._verdicts()
            yield journal

    def still_true(
        self,
        fingerprint: str,
        evaluation: Evaluation,
        settings: Mapping[str, str | None],
        benchmarks: Sequence[str],
        judges: Sequence[Judge],
    ) -> Results | None:
        """The earlier results that stay true beside those of a further evaluation: of the benchmarks that stay or are
        evaluated again, `None` without any. What is replaced is logged. `settings` are `attack` and `system_prompt`,
        as in `Results.generation`.

        A judge with the name of one with another model, of which verdicts would stay, is a [`ConfigError`].
        """
        if not (self.path / FILE).exists():
            return None
        before = self.results
        if (before.model.get("fingerprint"), before.profile) != (fingerprint, evaluation.profile):
            logger.warning("%s: results of other weights or of another profile are replaced.", self.path)
            return None
        if before.generation.get("system_prompt") != settings.get("system_prompt"):
            logger.warning("%s: results under another system prompt are replaced.", self.path)
            return None
        stay = [name for name in before.benchmarks if name not in benchmarks]
        dropped = []
        attacked = [n for n in benchmarks if n in BENCHMARKS and BENCHMARKS[n].kind == "safety"]
        if attacked and before.generation.get("attack") != settings.get("attack"):
            dropped = [name for name in stay if before.benchmarks[name].kind == "safety"]
        if dropped:
            logger.warning("%s: results under another attack are replaced: %s.", self.path, ", ".join(dropped))
        if other := [n for n in stay if n not in dropped and _sampled_otherwise(before.generation, n, evaluation)]:
            logger.warning("%s: results sampled in another way are replaced: %s.", self.path, ", ".join(other))
        kept = {name: result for name, result in before.benchmarks.items() if name not in {*dropped, *other}}
        self._check_names(before, [name for name in stay if name in kept], judges)
        return replace(before, benchmarks=kept)

    def add_answers(
        self,
        kept: Results | None,
        answers: Dataset,
        verdicts: Dataset,
        *,
        judges: Sequence[Judge],
        data: Mapping[str, Mapping[str, str]],
        **about: Any,
    ) -> Results:
        """Put an evaluation into the folder. The first judge of each benchmark makes its `value`, or the panel does if
        it did so before.

        `kept` is as [`~ResultsFolder.still_true`] returned it; the rest is as in
        [`~star_hf.evaluation.results.summary.summarise`].
        """
        earlier = kept.benchmarks if kept else {}
        there, judged = as_dataset([], RESPONSES), as_dataset([], VERDICTS)
        if kept:
            there, judged = of_benchmarks(self.responses, earlier), of_benchmarks(self._verdicts(), earlier)
        fresh = answers.unique("benchmark")
        stay = [name for name in earlier if name not in fresh]
        answers = in_order(concatenate_datasets([answers, of_benchmarks(there, stay)]))
        with_panel = PANEL in judged.unique("judge")
        judged, lost = on_same(judged, there, answers)
        if pairs := sorted(set(judged_pairs(lost)) - set(judged_pairs(verdicts))):
            logger.warning(
                "%s: verdicts on responses that changed or are not part of this run are dropped: %s.",
                self.path,
                ", ".join(f"{judge} on {name}" for name, judge in pairs),
            )
        verdicts = merged_verdicts(judged, verdicts, with_panel)
        paneled = {name for name, judge in judged_pairs(verdicts) if judge == PANEL}
        primary = {n: each.judge for n, each in earlier.items() if n in (paneled if each.judge == PANEL else stay)}
        results = summarise(
            answers,
            verdicts,
            judges=judge_records(kept, verdicts, judges),
            data={**{name: result.data for name, result in earlier.items()}, **data},
            primary=primary,
            **about,
        )
        for name, each in results.benchmarks.items():
            was = earlier[name].judge if name in earlier else None
            if was and each.judge != was:
                why = "" if (name, was) in judged_pairs(verdicts) else f": {was} judges nothing in it now"
                logger.warning(
                    "%s: the value of %s is by %s, no longer by %s%s.", self.path, name, each.judge, was, why
                )
        self._write(results, {"responses.parquet": answers, "verdicts.parquet": verdicts})
        return results

    def add_verdicts(
        self,
        verdicts: Dataset,
        judges: Sequence[Judge] = (),
        *,
        with_panel: bool = False,
        primary: str | None = None,
    ) -> Results:
        """Put verdicts into the folder, in place of the same judges' earlier ones on the same benchmarks.

        Args:
            verdicts ([`~datasets.Dataset`]): As `VERDICTS`.
            judges (list of `Judge`, *optional*): Their judges.
            with_panel (`bool`, defaults to `False`): Whether the judges form a panel. An existing one goes on.
            primary (`str`, *optional*): The judge, or `"panel"`, that makes the value of each benchmark it has judged
                from now on. By default each benchmark keeps its own.

        Raises:
            [`SourceError`]: If it is not a results folder.
            [`ConfigError`]: If `primary` has judged nothing in it.
        """
        before = self.results
        there = self._verdicts()
        verdicts = merged_verdicts(there, verdicts, with_panel or PANEL in there.unique("judge"))
        self.check_primary(primary, verdicts.unique("judge"))
        judged = set(judged_pairs(verdicts))
        leading = {n: primary if (n, primary) in judged else each.judge for n, each in before.benchmarks.items()}
        results = summarise(
            self.responses,
            verdicts,
            model=before.model,
            profile=before.profile,
            generation=before.generation,
            judges=judge_records(before, verdicts, judges),
            data={name: result.data for name, result in before.benchmarks.items()},
            primary={name: judge for name, judge in leading.items() if judge},
        )
        self._write(results, {"verdicts.parquet": verdicts})
        return results

    def check_primary(self, primary: str | None, joining: Iterable[str]) -> None:
        """Raise [`ConfigError`] if the primary judge is neither in the folder nor one of those that join."""
        judges = {*self._verdicts().unique("judge"), *joining}
        if primary is not None and primary not in judges:
            raise ConfigError(
                f"{primary!r} has judged nothing in {self.path}.", f"Its judges are {', '.join(sorted(judges))}."
            )

    def _check_names(self, before: Results, benchmarks: Sequence[str], judges: Sequence[Judge]) -> None:
        """A name in `results.json` has one model."""
        models = {record["name"]: record.get("model") for record in before.judges}
        there = of_benchmarks(self._verdicts(), benchmarks).unique("judge")
        for judge in judges:
            model = judge.record()["model"]
            if judge.name in there and models.get(judge.name, model) != model:
                raise ConfigError(
                    f"{self.path}: the judge {judge.name} was {models[judge.name]}, and is {model} now.",
                    f"Give it another `name` in a YAML file, or evaluate {', '.join(benchmarks)} again as well.",
                )

    def _verdicts(self) -> Dataset:
        """The verdicts; none where nothing was judged yet."""
        return self.verdicts if (self.path / "verdicts.parquet").exists() else as_dataset([], VERDICTS)

    def _write(self, results: Results, tables: Mapping[str, Dataset]) -> None:
        """Change the files together: they are written beside the old ones, and count once their folder is renamed."""
        draft, following = self.path / DRAFT, self.path / NEXT
        try:
            for place in (draft, following):  # of a killed process, or foreign
                place.unlink() if place.is_file() else shutil.rmtree(place, ignore_errors=True)
            draft.mkdir()
            for name, table in tables.items():
                write_table(table, draft / name)
            results.save(draft)
            os.replace(draft, following)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._finish()

    def _finish(self) -> None:
        """Move what was written, by this process or a killed one, to its place."""
        following = self.path / NEXT
        if following.is_dir():
            for file in following.iterdir():
                try:
                    os.replace(file, self.path / file.name)
                except OSError as error:
                    raise unwritable(self.path / file.name, error) from error
            following.rmdir()

    def _finish_killed(self) -> None:
        if (self.path / NEXT).is_dir():
            with locked(self.path):
                self._finish()


def _sampled_otherwise(generation: Mapping[str, Any], benchmark: str, evaluation: Evaluation) -> bool:
    """Whether a profile samples a benchmark otherwise than recorded, but for limits that the command line may set."""
    recorded = generation.get("benchmarks", {}).get(benchmark, {})
    sampling = evaluation.sampling(benchmark, samples=1).model_dump(exclude={"samples", "max_tokens"})
    return any(recorded.get(name, value) != value for name, value in sampling.items())
