"""One evaluation, from items to results: first all answers, then the judges. Every step can be resumed."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from ..llm import Budget, Journal
from ..utils.files import sha256_of
from .generation.generate import Drawn, generate
from .generation.models import Model, Sampling
from .generation.responses import read_completion
from .grading.confinement import Level, require
from .grading.grade import check_graders, grade
from .grading.judges import Judge
from .grading.judging import probe
from .results.folder import ResultsFolder
from .results.results import Results
from .tasks.attacks import attacked, opening_of
from .tasks.benchmarks import Benchmark, select_benchmarks
from .tasks.loading import data_record, load_items
from .tasks.profiles import Evaluation
from .types import Item, Response, responses_table


__all__ = ["Options", "evaluate", "results_folder"]


@dataclass(frozen=True)
class Options:
    """Options of an evaluation, beside model, tasks and judges.

    Attributes:
        data_dir (`Path` or `None`): Local copies of the data, `<data_dir>/<card>/<file>`.
        limit (`int` or `None`): Items per benchmark.
        samples, max_tokens (`int` or `None`): Answers per item and tokens per answer, in place of the profile's.
        attack (`str` or `None`): See [`~star_hf.evaluation.tasks.attacks`].
        sandbox (`str`): The least confinement that code of the model may run in: `isolated`, `restricted` or `weak`.
        budget_usd (`float` or `None`): Dollars that this call may spend on the model and on the judges.
        expects_reasoning (`bool`): As for [`~star_hf.evaluation.generation.responses.read_response`].
        system_prompt (`str` or `None`): The system prompt of all items that have none of their own.
        judge_cut_answers (`bool`): Whether an answer that the token limit cut is judged by its beginning, instead of
            failing as `truncated`: for judges that read no more than the beginning. A thought without an end fails.
        journal (`Path` or `None`): The journal to use in place of that of the results folder.
    """

    data_dir: Path | None = None
    limit: int | None = None
    samples: int | None = None
    max_tokens: int | None = None
    attack: str | None = None
    allow_code_execution: bool = False
    sandbox: Level = "restricted"
    expects_reasoning: bool = False
    system_prompt: str | None = None
    judge_cut_answers: bool = False
    budget_usd: float | None = None
    journal: Path | None = None
    progress: bool = True


@dataclass(frozen=True)
class _Asked:
    """A benchmark with its items and sampling."""

    benchmark: Benchmark
    items: list[Item] = field(repr=False)
    sampling: Sampling


def results_folder(
    model: str,
    profile: str,
    attack: str | None = None,
    root: str | Path = "results",
    prompt: str | Path | None = None,
) -> Path:
    """The default results folder: `results/<model>/<profile>`, with `-<attack>` and with `-<prompt>`, the name of the
    system prompt's file, where there is one."""
    name = re.sub(r"[^\w.-]+", "--", model.strip("/.")) or "model"
    return Path(root) / name / "-".join([profile, *(Path(part).stem for part in (attack, prompt) if part)])


def evaluate(
    model: Model,
    tasks: Iterable[str | Benchmark],
    folder: str | Path,
    *,
    evaluation: Evaluation,
    judges: Sequence[Judge] = (),
    options: Options | None = None,
) -> Results:
    """Measure a model.

    Data, model and judges are checked before the first prompt is sent. All benchmarks are answered before the first
    judge is asked, so that a judge that fails, or another judge later, costs no generation.

    Args:
        model (`Model`): [`~star_hf.evaluation.generation.models.Served`] or
            [`~star_hf.evaluation.generation.in_process.InProcess`].
        tasks (list of `str` or `Benchmark`): Benchmarks or groups, with or without `star1:`, and files of suites.
        folder (`str` or `Path`): The results folder; [`~star_hf.evaluation.results.folder.ResultsFolder`] says what
            of earlier evaluations stays in it.
        judges (list of `Judge`): The first that serves a kind makes its `value`, or the panel does if it did before.

    Raises:
        ConfigError: If a benchmark has no judge, code may not be run, or an endpoint refuses the run.
        SourceError: If data are not available, or the folder is damaged.
        IncompleteRunError: If the model or a judge does not answer. All that came is kept, and the same call goes on.
        StarError: If another process works in the folder.
    """
    options, place = options or Options(), ResultsFolder(folder)
    benchmarks = select_benchmarks(tasks)
    check_graders(benchmarks, judges, options.allow_code_execution, options.sandbox)
    asked = [_load(benchmark, evaluation, options) for benchmark in benchmarks]
    kinds = {benchmark.kind for benchmark in benchmarks}
    systems = (item.system for each in asked for item in each.items)
    model.probe(options.system_prompt or next(filter(None, systems), None))
    for judge in judges:
        probe(judge, kinds)
    names = [benchmark.name for benchmark in benchmarks]
    with place.working(options.journal) as journal:
        settings = {"attack": options.attack, "system_prompt": _hash(options)}
        kept = place.still_true(model.fingerprint, evaluation, settings, names, judges)
        spent = journal.cost()
        budget = None if options.budget_usd is None else Budget(spent + options.budget_usd, spent)
        answers = [_answer(each, model, journal, options, budget) for each in asked]
        verdicts = [
            grade(
                each.benchmark,
                each.items,
                rows,
                judges,
                journal,
                sandbox=options.sandbox,
                budget=budget,
                progress=options.progress,
            )
            for each, rows in zip(asked, answers, strict=True)
        ]
        return place.add_answers(
            kept,
            concatenate_datasets(answers),
            concatenate_datasets(verdicts),
            model={"name": model.name, "revision": model.revision, "fingerprint": model.fingerprint},
            profile=evaluation.profile,
            generation=_generation(asked, kept, evaluation, options),
            judges=judges,
            data={each.benchmark.name: data_record(each.benchmark, each.items) for each in asked},
        )


def _hash(options: Options) -> str | None:
    """What results say of the system prompt; its text is in the history of the responses."""
    return options.system_prompt and sha256_of(options.system_prompt.encode())[:16]


def _load(benchmark: Benchmark, evaluation: Evaluation, options: Options) -> _Asked:
    items = load_items(benchmark, options.data_dir, options.limit, evaluation.profile)
    if benchmark.kind == "safety":
        items = attacked(items, options.attack)
    sampling = evaluation.sampling(benchmark.name, samples=options.samples, max_tokens=options.max_tokens)
    return _Asked(benchmark, items, sampling)


def _answer(asked: _Asked, model: Model, journal: Journal, options: Options, budget: Budget | None) -> Dataset:
    name, progress = asked.benchmark.name, options.progress
    drawn = generate(
        asked.items,
        model,
        journal,
        asked.sampling,
        system=options.system_prompt,
        expects_reasoning=options.expects_reasoning,
        budget=budget,
        description=name,
        progress=progress,
    )
    return responses_table(name, asked.items, (_read(each, options) for each in drawn))


def _read(drawn: Drawn, options: Options) -> Response:
    """The answer, with the opening that an attack put before it: judges read the whole turn."""
    item, tokens, history = drawn.item, drawn.completion.completion_tokens, drawn.history or None
    if drawn.failure:
        return Response(item.id, drawn.sample, failure=drawn.failure, tokens=tokens, history=history)
    opening, completion = opening_of(item), drawn.completion
    if options.judge_cut_answers and completion.outcome == "truncated":
        completion = replace(completion, outcome="ok")
    thinks = options.expects_reasoning and not opening  # a turn that has begun leaves no place for reasoning
    answer = read_completion(item.id, completion, expects_reasoning=thinks, sample=drawn.sample)
    whole = f"{opening} {answer.answer}" if opening and answer.answer else answer.answer
    return replace(answer, answer=whole, history=history)


def _generation(
    asked: Sequence[_Asked], kept: Results | None, evaluation: Evaluation, options: Options
) -> dict[str, Any]:
    """`Results.generation`: the profile's sampling, the attack on the safety benchmarks, the hash of the system
    prompt, and each benchmark's own."""
    there = kept.benchmarks if kept else {}
    earlier = kept.generation.get("benchmarks", {}) if kept else {}
    own = {each.benchmark.name: {**each.sampling.model_dump(), "limit": options.limit} for each in asked}
    for each in asked:
        if options.judge_cut_answers:
            own[each.benchmark.name]["judge_cut_answers"] = True
        if each.benchmark.grader == "code":
            own[each.benchmark.name]["sandbox"] = str(require(options.sandbox))
        if each.benchmark.rules:
            own[each.benchmark.name]["rules"] = dict(each.benchmark.rules)
    attack, now = options.attack, any(each.benchmark.kind == "safety" for each in asked)
    if not now and any(result.kind == "safety" for result in there.values()):
        attack = kept.generation.get("attack")
    return {
        **evaluation.generation.model_dump(),
        "profile": evaluation.name,
        "attack": attack,
        **({"system_prompt": _hash(options)} if options.system_prompt else {}),
        "benchmarks": {**{name: each for name, each in earlier.items() if name in there}, **own},
    }
