"""One evaluation from its items to its results: generations first, judges after, and every step resumable.

```
results/my-model/recommended/
  journal.sqlite      every answer of the model and every reply of the judges
  answers.parquet     what the model said, taken apart
  verdicts.parquet    what judges and extractors say of it
  results.json        rates with intervals, and what they leave out
```
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from filelock import FileLock, Timeout

from ..errors import StarError
from ..llm import Completion, Journal
from .generation.answers import read_completion
from .generation.generate import generate
from .generation.models import Model, Sampling
from .grading.grade import check_graders, grade
from .grading.judges import Judge
from .grading.judging import probe
from .results.carried import Carried, carried
from .results.results import Results, summarise
from .results.scores import answers_table
from .tasks.attacks import attacked, opening_of
from .tasks.benchmarks import BENCHMARKS, Benchmark, data_record, load_items, select_benchmarks
from .tasks.profiles import Evaluation
from .types import Answer, Item


__all__ = ["Options", "evaluate", "results_folder"]


@dataclass(frozen=True)
class Options:
    """What an evaluation may be told beside model, tasks and judges.

    Attributes:
        data_dir (`Path` or `None`): Local copies of the data, `<data_dir>/<card>/<file>`.
        limit (`int` or `None`): Items per benchmark.
        samples (`int` or `None`): Answers per item, in place of the profile's.
        max_tokens (`int` or `None`): Tokens per answer, in place of the profile's.
        attack (`str` or `None`): How safety prompts are attacked, see [`~star_hf.evaluation.tasks.attacks`].
        allow_code_execution (`bool`): Whether code that the model wrote may be run.
        expects_reasoning (`bool`): Whether the model always thinks first, so that text without `</think>` is a thought
            that never ended.
        progress (`bool`): Whether to show progress bars.
    """

    data_dir: Path | None = None
    limit: int | None = None
    samples: int | None = None
    max_tokens: int | None = None
    attack: str | None = None
    allow_code_execution: bool = False
    expects_reasoning: bool = False
    progress: bool = True


@dataclass(frozen=True)
class _Asked:
    """A benchmark with its items and how they are asked."""

    benchmark: Benchmark
    items: list[Item] = field(repr=False)
    sampling: Sampling


def results_folder(model: str, profile: str, attack: str | None = None, root: str | Path = "results") -> Path:
    """Where results lie by default: `results/<model>/<profile>`, with an attack's name behind the profile's."""
    name = re.sub(r"[^\w.-]+", "--", model.strip("/.")) or "model"
    return Path(root) / name / "-".join(filter(None, (profile, attack and Path(attack).stem)))


def evaluate(
    model: Model,
    tasks: Iterable[str],
    folder: str | Path,
    *,
    evaluation: Evaluation,
    judges: Sequence[Judge] = (),
    options: Options | None = None,
) -> Results:
    """Measure a model.

    Nothing is asked before data, model and judges have been looked at. All benchmarks are answered before the first
    judge is asked, so that a judge that fails today, or another one tomorrow, costs no generation.

    Args:
        model (`Model`): Who answers: [`~star_hf.evaluation.generation.models.Served`] or
            [`~star_hf.evaluation.generation.in_process.InProcess`].
        tasks (list of `str`): Benchmarks or groups, with or without `star1:`.
        folder (`str` or `Path`): The results folder. Other benchmarks in it stay, if of the same model and profile.
        evaluation (`Evaluation`): The profile.
        judges (list of `Judge`): Who judges safety and over-refusal. The first that serves a kind makes its `value`.
        options (`Options`, *optional*): The rest.

    Returns:
        `Results`: As saved. [`~star_hf.evaluation.results.results.check_complete`] says whether too much is missing.

    Raises:
        ConfigError: If a benchmark has no judge, code may not be run, or an endpoint refuses the run.
        SourceError: If data cannot be had.
        IncompleteRunError: If model or judge do not answer. All that came is kept, and the same call goes on.
        StarError: If another process works in the folder.
    """
    options, folder = options or Options(), Path(folder)
    benchmarks = select_benchmarks(tasks)
    check_graders(benchmarks, judges, options.allow_code_execution)
    asked = [_load(benchmark, evaluation, options) for benchmark in benchmarks]
    model.probe()
    for judge in judges:
        probe(judge)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", blocking=False), Journal(folder / "journal.sqlite") as journal:
            there = carried(folder, model.fingerprint, evaluation.profile)
            answers = {each.benchmark.name: _answer(each, model, journal, options) for each in asked}
            verdicts = {
                each.benchmark.name: _judge(each, answers[each.benchmark.name], judges, journal, there, options)
                for each in asked
            }
            return _save(folder, asked, answers, verdicts, there, model, evaluation, judges, options)
    except Timeout:
        raise StarError(
            f"Another process is evaluating in {folder}.", "Wait for it, or name another folder with --output."
        ) from None


def _load(benchmark: Benchmark, evaluation: Evaluation, options: Options) -> _Asked:
    items = load_items(benchmark.name, options.data_dir, options.limit, evaluation.profile)
    if benchmark.kind == "safety":
        items = attacked(items, options.attack)
    sampling = evaluation.sampling(benchmark.name, samples=options.samples, max_tokens=options.max_tokens)
    return _Asked(benchmark, items, sampling)


def _answer(asked: _Asked, model: Model, journal: Journal, options: Options) -> Dataset:
    drawn = generate(
        asked.items,
        model,
        journal,
        asked.sampling,
        description=asked.benchmark.name,
        progress=options.progress,
    )
    answers = (_read(item, sample, completion, options) for item, sample, completion in drawn)
    return answers_table(asked.benchmark.name, asked.items, answers)


def _read(item: Item, sample: int, completion: Completion, options: Options) -> Answer:
    """The answer, with the opening that an attack put into the model's mouth: judges read the turn whole."""
    opening = opening_of(item)
    thinks = options.expects_reasoning and not opening  # whose turn is begun has no place left to think
    answer = read_completion(item.id, completion, expects_reasoning=thinks, sample=sample)
    return replace(answer, answer=f"{opening} {answer.answer}") if opening and answer.answer else answer


def _judge(
    asked: _Asked, answers: Dataset, judges: Sequence[Judge], journal: Journal, there: Carried, options: Options
) -> Dataset:
    """This run's verdicts first: the first judge that stands in a table makes the benchmark's value."""
    fresh = grade(asked.benchmark, asked.items, answers, judges, journal, progress=options.progress)
    others = there.verdicts_beside(asked.benchmark.name, answers, fresh.unique("judge"))
    return concatenate_datasets([fresh, others])


def _save(
    folder: Path,
    asked: Sequence[_Asked],
    answers: Mapping[str, Dataset],
    verdicts: Mapping[str, Dataset],
    there: Carried,
    model: Model,
    evaluation: Evaluation,
    judges: Sequence[Judge],
    options: Options,
) -> Results:
    earlier = there.results.benchmarks if there.results else {}
    data = {name: result.data for name, result in earlier.items()}
    data |= {each.benchmark.name: data_record(each.benchmark.name, each.items) for each in asked}
    all_answers = _in_order({**there.answers, **answers})
    all_verdicts = _in_order({**there.verdicts, **verdicts})
    results = summarise(
        all_answers,
        all_verdicts,
        model={"name": model.name, "revision": model.revision, "fingerprint": model.fingerprint},
        profile=evaluation.profile,
        generation=_generation(asked, there, evaluation, options),
        judges=list({judge["name"]: judge for judge in (*there.judges, *(j.record() for j in judges))}.values()),
        data=data,
        primary={name: result.judge for name, result in earlier.items() if result.judge and name not in answers},
    )
    _write(all_answers, folder / "answers.parquet")
    _write(all_verdicts, folder / "verdicts.parquet")
    results.save(folder)
    return results


def _generation(asked: Sequence[_Asked], there: Carried, evaluation: Evaluation, options: Options) -> dict[str, Any]:
    """The profile's sampling, and per benchmark all of its own."""
    earlier = there.results.generation.get("benchmarks", {}) if there.results else {}
    own = {each.benchmark.name: {**asdict(each.sampling), "limit": options.limit} for each in asked}
    return {
        **asdict(Sampling(**evaluation.generation.given())),
        "profile": evaluation.name,
        "attack": options.attack,
        "benchmarks": {**earlier, **own},
    }


def _in_order(tables: Mapping[str, Dataset]) -> Dataset:
    return concatenate_datasets([tables[name] for name in BENCHMARKS if name in tables])


def _write(table: Dataset, path: Path) -> None:
    fresh = path.with_name(f".{path.name}.new")
    table.to_parquet(fresh)
    os.replace(fresh, path)
