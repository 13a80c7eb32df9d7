"""Speed of the statistics: 12,000 items of two models, summarised, set beside the paper and compared.

    python benchmarks/compare.py
    python benchmarks/compare.py --items 1000 --samples 4

All of it starts from the files of two results folders, and the first run pays for what is read once. Target: 2 s.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path


RUNS, TARGET_S = 3, 2.0


def write(folder: Path, model: str, accuracy: float, items: int, samples: int) -> None:
    """A results folder of MMLU-Pro with random outcomes, in 14 categories."""
    from star_hf.evaluation.results.results import summarise
    from star_hf.evaluation.results.scores import answers_table, verdicts_table
    from star_hf.evaluation.types import Answer, Item, Verdict

    draw = random.Random(model)
    asked = [Item(f"i{number}", f"question {number}", category=f"c{number % 14}") for number in range(items)]
    pairs = [(item.id, sample) for item in asked for sample in range(samples)]
    answers = answers_table("mmlu_pro", asked, [Answer(*pair, "The answer is B.") for pair in pairs])
    verdicts = verdicts_table(
        "mmlu_pro", [Verdict(*pair, "choice", "answer", value=float(draw.random() < accuracy)) for pair in pairs]
    )
    folder.mkdir()
    answers.to_parquet(folder / "answers.parquet")
    verdicts.to_parquet(folder / "verdicts.parquet")
    results = summarise(answers, verdicts, model={"name": model}, profile="paper", generation={}, judges=[], data={})
    results.save(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12_000)
    parser.add_argument("--samples", type=int, default=1)
    arguments = parser.parse_args()

    from datasets import disable_progress_bars

    from star_hf.evaluation.comparison.compare import compare
    from star_hf.evaluation.comparison.paper import ledger
    from star_hf.evaluation.results.rejudge import update_results

    disable_progress_bars()
    with tempfile.TemporaryDirectory() as parent:
        base, tuned = Path(parent) / "base", Path(parent) / "tuned"
        write(base, "base", 0.493, arguments.items, arguments.samples)
        write(tuned, "tuned", 0.498, arguments.items, arguments.samples)
        steps: dict[str, Callable] = {
            "summarise": lambda: update_results(tuned),
            "ledger": lambda: ledger(update_results(tuned), row="7b-star-1"),
            "compare": lambda: compare(base, tuned),
        }
        print(f"{arguments.items} items, {arguments.samples} per item")
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
