"""A sealed case never becomes data: near-copies are left out of new questions, and the file that is trained on is
read back and compared before each training."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from ..deduplication.alike import find_alike
from ..errors import StarError
from ..policies import Suite
from ..schema import COLLECTED, as_dataset
from ..utils.text import listed, normalise


__all__ = ["check_sealed", "near_copies", "sealed_rows"]

LONG = 30
"""Characters of a turn that says enough to be compared on its own: "And then?" does not."""


def sealed_rows(suite: Suite) -> Dataset:
    """The sealed half of a suite as rows to compare with: each case as a whole, and each of its longer turns."""
    rows = []
    for case in suite.half("sealed").cases:
        whole = "\n".join(case.turns)
        turns = [turn for turn in case.turns if len(turn) >= LONG] if len(case.turns) > 1 else []
        rows += [{"id": case.id, "question": text, "source": case.rule} for text in (whole, *turns)]
    return as_dataset(rows, COLLECTED)


def near_copies(rows: Dataset, sealed: Dataset, **options: Any) -> Dataset:
    """The rows that are like a sealed case, by our own measures: the same words, eight words in a row, or similar by
    TF-IDF or embeddings.

    Args:
        rows ([`~datasets.Dataset`]): As `schema.COLLECTED`.
        sealed ([`~datasets.Dataset`]): As of [`sealed_rows`].
        options: Those of [`~star_hf.deduplication.alike.find_alike`].

    Returns:
        [`~datasets.Dataset`]: As `schema.REMOVED`, with the case and the similarity.
    """
    result = find_alike(rows, sealed, progress=False, **options).first_wins()
    reasons = result.removed["reason"][:]
    return result.removed.select([n for n, reason in enumerate(reasons) if reason.endswith("_contamination")])


def check_sealed(path: Path, suite: Suite, **options: Any) -> int:
    """Read a file of training rows, and refuse it if a row is like a sealed case, or any text of it contains one.

    Args:
        path (`Path`): JSON Lines with `question` and `response`, or with `messages`.
        suite (`Suite`): With its sealed half.
        options: As for [`near_copies`].

    Returns:
        `int`: The rows of the file.

    Raises:
        StarError: With the rows and the cases.
    """
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    sealed = sealed_rows(suite)
    asked = [
        {"id": str(number), "question": text, "source": "training data"}
        for number, row in enumerate(rows, start=1)
        for text in _asked(row)
    ]
    found = {(row["id"], row["matched_id"]) for row in near_copies(as_dataset(asked, COLLECTED), sealed, **options)}
    found |= {(str(number), case) for number, case in _containing(rows, sealed)}
    if found:
        places = sorted({f"line {line} (case {case})" for line, case in found}, key=lambda text: int(text.split()[1]))
        raise StarError(
            f"{path} has {len({line for line, _ in found})} rows that are like sealed cases: {listed(places, 10)}.",
            "Nothing was trained. A sealed case must never become data: remove these rows from the data that they are "
            "from, or this file, which is then made again.",
        )
    return len(rows)


def _asked(row: dict[str, Any]) -> Iterator[str]:
    if "messages" in row:
        yield from (message["content"] for message in row["messages"] if message["role"] == "user")
    else:
        yield row["question"]


def _containing(rows: Sequence[dict[str, Any]], sealed: Dataset) -> Iterable[tuple[int, str]]:
    """The rows of which any text, a response or a system prompt too, has a whole sealed text in it."""
    wanted = [
        (case, normalise(text))
        for case, text in zip(sealed["id"], sealed["question"], strict=True)
        if len(text) >= LONG
    ]
    for number, row in enumerate(rows, start=1):
        texts = [m["content"] for m in row["messages"]] if "messages" in row else [row["question"], row["response"]]
        inside = normalise("\n".join(texts))
        yield from ((number, case) for case, text in wanted if text in inside)
