"""Judges for the answers of a results folder. Nothing is generated."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, concatenate_datasets

from ..errors import ConfigError
from ..llm.cost.budget import Budget
from .grading.judges import Judge
from .grading.judging import judge_responses
from .grading.panel import PANEL
from .results.folder import ResultsFolder
from .results.tables import of_benchmarks
from .types import Part


__all__ = ["rejudge"]


def rejudge(
    folder: str | Path,
    judges: Sequence[Judge],
    *,
    parts: Sequence[Part] = ("answer", "reasoning"),
    with_panel: bool = False,
    primary: str | None = None,
    budget_usd: float | None = None,
    progress: bool = True,
) -> Dataset:
    """Have judges judge the answers of a results folder, each benchmark by those that serve its kind.

    The verdicts are returned, and put into the folder as
    [`~star_hf.evaluation.results.folder.ResultsFolder.add_verdicts`] says. The judges may cost `budget_usd` dollars
    beyond what the folder has cost already.

    Raises:
        ConfigError: If no judge serves a kind in the folder, or `primary` has judged nothing.
        IncompleteRunError: As [`~star_hf.evaluation.grading.judging.judge_responses`]. All replies are kept.
    """
    place = ResultsFolder(folder)
    _ = place.results  # the folder is not created by mistake
    with place.working() as journal:
        answers, benchmarks = place.responses, place.results.benchmarks
        kinds = {name: result.kind for name, result in benchmarks.items() if result.kind != "reasoning"}
        place.check_primary(primary, [*(judge.name for judge in judges), *([PANEL] if with_panel else [])])
        budget = None if budget_usd is None else Budget(journal.cost() + budget_usd, journal.cost())
        found, together = [], defaultdict(list)
        for name, kind in kinds.items():
            together[name if kind == "policy" else kind].append(name)  # each suite has rules of its own
        for names in together.values():
            kind = kinds[names[0]]
            serving, rows = [judge for judge in judges if kind in judge.kinds], of_benchmarks(answers, names)
            rules = place.results.generation.get("benchmarks", {}).get(names[0], {}).get("rules")
            engine = {"kind": kind, "rules": rules, "parts": parts, "budget": budget, "progress": progress}
            if serving and len(rows):
                found.append(judge_responses(rows, serving, journal, **engine))
        if not found:
            what = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "nothing that judges grade"
            raise ConfigError(
                f"{folder} holds answers to {what}, which none of {', '.join(judge.name for judge in judges)} judges.",
                "`star-hf judge list` shows what each judge is for.",
            )
        verdicts = concatenate_datasets(found)
        place.add_verdicts(verdicts, judges, with_panel=with_panel, primary=primary)
    return verdicts
