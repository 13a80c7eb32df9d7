"""Time and memory of a finished stage: a plain loop, `annotate` (a `Dataset.map` that reads the journal), and a map.

    python benchmarks/transforms.py                 # 41,000 rows of the stage `reason`, 1 % of them failed
    python benchmarks/transforms.py --rows 5000

All answers, of 900 words each, are in the journal already, and no server is there. The loop appends each row to lists
that become Arrow tables of 500 rows, which is how `annotate` worked before. Each measurement is a process of its own;
its memory is the peak above what it had before the stage began.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, concatenate_datasets


ROWS, WORDS, PART, ROUNDS = 41_000, 900, 500, 3
NOWHERE = "http://127.0.0.1:9/v1"

Stage = tuple[Dataset, Any, Any, Any]


def stage(count: int, path: Path) -> Stage:
    """Rows, teacher, endpoint and journal."""
    from star_hf import Endpoint, Journal, Taxonomy, Teacher
    from star_hf.schema import CLASSIFIED, as_dataset

    labels = Taxonomy.load().names
    rows = as_dataset(
        (
            {
                "id": f"{index:016x}",
                "question": f"What is good to know about subject number {index}?",
                "source": "synthetic",
                "category": [labels[index % len(labels)]],
            }
            for index in range(count)
        ),
        CLASSIFIED,
    )
    endpoint = Endpoint(model="loopback", provider="vllm", base_url=NOWHERE)
    journal = Journal(path)
    return rows, Teacher(endpoint, journal), endpoint, journal


def fill(count: int, path: Path) -> None:
    """Write all answers; every hundredth one is truncated."""
    from star_hf.llm import Completion, Request
    from star_hf.llm.journal import Entry

    rows, teacher, endpoint, journal = stage(count, path)
    words = [f"w{index % 97:04}" for index in range(WORDS)]
    text = f"<think>\n{' '.join(words[:600])}\n</think>\n\n{' '.join(words[600:])}"
    identity = endpoint.identity()

    def entries() -> Any:
        for place, row in enumerate(rows):
            request = Request(teacher.messages(row), None, teacher.reasoning, teacher.version(row))
            outcome = "truncated" if place % 100 == 99 else "ok"
            completion = Completion(f"{text} {place}", outcome=outcome, prompt_tokens=400, completion_tokens=1_200)
            yield Entry(request.key(identity), teacher.stage, NOWHERE, request.version, completion, None)

    journal.merge(entries())


class Growing:
    """Rows on their way into a `Dataset`, part by part."""

    def __init__(self, features: Features):
        self.features, self.rows, self.parts = features, [], []

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == PART:
            self.close()

    def close(self) -> None:
        from star_hf.schema import as_dataset

        self.parts.append(as_dataset(self.rows, self.features))
        self.rows = []

    def dataset(self) -> Dataset:
        if self.rows or not self.parts:
            self.close()
        return concatenate_datasets(self.parts)


def loop(rows: Dataset, teacher: Any, endpoint: Any, journal: Any) -> tuple[int, int]:
    """What `annotate` did before it used `Dataset.map`."""
    from star_hf.llm.walk import Walk
    from star_hf.schema import PROVENANCE, REMOVED, each_row, removal
    from star_hf.utils.text import encodable

    walk = Walk(teacher, endpoint, journal, 2, None, 0.02)
    finished = Growing(Features({**rows.features, **teacher.features}))
    removed, receipts = Growing(REMOVED), Growing(PROVENANCE)
    for place, row in enumerate(each_row(rows)):
        end = walk.follow(row, place if place % PART else None)
        last = end.entries[-1]
        receipts.add(
            {
                "id": row["id"],
                "stage": teacher.stage,
                "request_key": last.key,
                "endpoint": last.endpoint,
                "model": last.completion.model or endpoint.model,
                "prompt_version": last.version,
                "attempts": len(end.entries),
                "prompt_tokens": sum(entry.completion.prompt_tokens for entry in end.entries),
                "completion_tokens": sum(entry.completion.completion_tokens for entry in end.entries),
                "cost_usd": None,
            }
        )
        if isinstance(end.result, dict):
            new = {name: encodable(text) if isinstance(text, str) else text for name, text in end.result.items()}
            finished.add({**row, **new})
        else:
            removed.add(removal(row, teacher.stage, end.result.reason, detail=end.result.detail))
    tables = [growing.dataset() for growing in (finished, removed, receipts)]
    return len(tables[0]), len(tables[1])


def accounted(rows: Dataset, teacher: Any, endpoint: Any, journal: Any) -> tuple[int, int]:
    """`annotate`, as the functions that return an `Outcome` call it."""
    from star_hf import annotate

    outcome = annotate(rows, teacher, endpoint, journal, progress=False)
    return len(outcome.rows), len(outcome.removed)


def mapped(rows: Dataset, teacher: Any, endpoint: Any, journal: Any) -> tuple[int, int]:
    """`rows.map(Teacher(...), batched=True)` over rows on disk, then a filter."""
    from star_hf import Usable

    with tempfile.TemporaryDirectory() as folder:
        rows.save_to_disk(folder)
        answered = Dataset.load_from_disk(folder).map(teacher, batched=True)
        usable = answered.filter(Usable(), batched=True)
        return len(usable), len(answered) - len(usable)


SIDES: dict[str, Callable[..., tuple[int, int]]] = {"loop": loop, "annotate": accounted, "map": mapped}


def measure(side: str, count: int, path: Path) -> None:
    """Print seconds and MB of one side as JSON."""
    given = stage(count, path)
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    ends = SIDES[side](*given)
    seconds, after = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF)
    if ends != (count - count // 100, count // 100):
        raise SystemExit(f"{ends} rows stayed and failed")
    print(json.dumps({"seconds": seconds, "mb": (after.ru_maxrss - before.ru_maxrss) / 1024}))


def main() -> None:
    """Fill a journal, measure the sides in turns, print the best of each and the ratios to the loop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        return measure(given.side, given.rows, given.journal)
    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        fill(given.rows, path)
        for _ in range(ROUNDS):
            for side, runs in found.items():
                command = [sys.executable, __file__, "--side", side, "--rows", str(given.rows), "--journal", path]
                done = subprocess.run(
                    command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
                )
                runs.append(json.loads(done.stdout))
    best = {side: {name: min(run[name] for run in runs) for name in runs[0]} for side, runs in found.items()}
    for side, figures in best.items():
        ratios = {name: figures[name] / best["loop"][name] for name in figures}
        print(
            f"{side:10} {figures['seconds']:6.1f} s ({ratios['seconds']:.2f})   "
            f"{figures['mb']:6.0f} MB ({ratios['mb']:.2f})"
        )


if __name__ == "__main__":
    main()
