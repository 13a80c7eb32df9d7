"""Speed of the statistics: all benchmarks answered by two models, summarised, set beside the paper and compared.

    python benchmarks/compare.py
    python benchmarks/compare.py --samples 4

Summarise and compare start from the files of two results folders, and the first run pays for imports. Target: 2 s.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


RUNS, TARGET_S = 3, 2.0
WILDCHAT = 370
TEXT = "A sentence of the reasoning, which is longer than the answer. " * 50


def write(folder: Path, model: str, gain: float, samples: int) -> None:
    """A results folder of all benchmarks with random outcomes, in 14 categories each."""
    from datasets import concatenate_datasets

    from star_hf.evaluation.results.summary import summarise
    from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
    from star_hf.evaluation.types import Item, Response, Verdict, responses_table, verdicts_table

    draw, tables = random.Random(model), []
    for benchmark in BENCHMARKS.values():
        asked = [Item(f"i{n}", f"question {n}", category=f"c{n % 14}") for n in range(benchmark.count or WILDCHAT)]
        pairs = [(item.id, sample) for item in asked for sample in range(samples)]
        values = [float(draw.random() < 0.5 + gain) for _ in pairs]
        answers = [Response(*pair, "The answer is B.", reasoning=TEXT) for pair in pairs]
        verdicts = [Verdict(*pair, "judge", value=value) for pair, value in zip(pairs, values, strict=True)]
        tables.append((responses_table(benchmark.name, asked, answers), verdicts_table(benchmark.name, verdicts)))
    answers, verdicts = (concatenate_datasets(list(parts)) for parts in zip(*tables, strict=True))
    folder.mkdir()
    answers.to_parquet(folder / "responses.parquet")
    verdicts.to_parquet(folder / "verdicts.parquet")
    results = summarise(answers, verdicts, model={"name": model}, profile="paper", generation={}, judges=[], data={})
    results.save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1)
    arguments = parser.parse_args()

    from datasets import disable_progress_bars

    from star_hf.evaluation.comparison.compare import compare
    from star_hf.evaluation.comparison.paper import ledger
    from star_hf.evaluation.results.folder import ResultsFolder
    from star_hf.evaluation.results.summary import summarise

    disable_progress_bars()
    about = {"model": {"name": "tuned"}, "profile": "paper", "generation": {}, "judges": [], "data": {}}
    with tempfile.TemporaryDirectory() as parent:
        base, tuned = Path(parent) / "base", Path(parent) / "tuned"
        write(base, "base", 0.0, arguments.samples)
        write(tuned, "tuned", 0.01, arguments.samples)
        place = ResultsFolder(tuned)
        steps: dict[str, Callable] = {
            "summarise": lambda: summarise(place.responses, place.verdicts, **about),
            "ledger": lambda: ledger(place.results, row="7b-star-1"),
            "compare": lambda: compare(base, tuned),
        }
        print(f"{len(place.responses)} answers of each model, {arguments.samples} per item")
        for name, step in steps.items():
            seconds = []
            for _ in range(RUNS):
                start = time.perf_counter()
                step()
                seconds.append(time.perf_counter() - start)
            met = "met" if max(seconds) <= TARGET_S else "missed"
            print(f"{name}: {', '.join(f'{each:.2f}' for each in seconds)} s (target <= {TARGET_S:.0f} s: {met})")


if __name__ == "__main__":
    main()
