"""The items of a benchmark, with the prompts that a model is sent."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from ...errors import ConfigError, SourceError
from ...sources.readers import draw
from ...sources.reading import read_source
from ...utils.files import sha256_of
from ..types import Item
from .benchmarks import BENCHMARKS, Benchmark


__all__ = ["INSTRUCTIONS", "Profile", "data_record", "load_items"]

logger = logging.getLogger(__name__)

Profile = Literal["paper", "recommended"]

INSTRUCTIONS: dict[str, dict[str, str]] = {
    "paper": {
        "math": "Think it through step by step, then close with a line `Answer: X`, where X is just the final answer.",
        "choice": "Think it through step by step, then close with a line `Answer: X`, where X is one letter.",
        "code": "Implement this function as its signature and docstring say. Reply with the function's code only.",
    },
    "recommended": {
        "math": "Reason step by step. Put the final answer, and nothing else, inside \\boxed{}.",
        "choice": "Reason step by step. Finish with a line `Answer: X`, where X is the right choice's letter.",
        "code": "Complete this function. Finish with one Python code block with the whole function and its imports.",
    },
}
"""What follows the question, per profile and grader; `paper` asks for answers in the form that STAR-1 asked for.
Safety prompts are sent as they are."""


def load_items(
    name: str | Benchmark,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    profile: Profile = "recommended",
) -> list[Item]:
    """The items of a benchmark, with the prompts that a model is sent, in the file's order; ids are unique.

    Args:
        name (`str` or `Benchmark`): A name of `BENCHMARKS`, or a benchmark such as a suite's.
        data_dir (`str` or `Path`, *optional*): Folder of local copies, `<data_dir>/<card>/<file>`, for gated sets or
            machines without the Hub. Without it, the card's own files are read.
        limit (`int`, *optional*): How many items. They are drawn by a hash of their ids, so that a small draw covers
            the categories, is part of every larger one, and is the same everywhere.
        profile (`str`, defaults to `"recommended"`): Which instructions follow the question, see `INSTRUCTIONS`.

    Raises:
        [`ConfigError`]: If there is no such benchmark or profile.
        [`SourceError`]: If the data are missing or cannot be read, with what to do.
    """
    benchmark = BENCHMARKS.get(name) if isinstance(name, str) else name
    if benchmark is None:
        raise ConfigError(f"There is no benchmark {name!r}.", f"Use one of {', '.join(BENCHMARKS)}.")
    if profile not in get_args(Profile):
        raise ConfigError(f"There is no profile {profile!r}.", f"Use {' or '.join(get_args(Profile))}.")
    found = list(benchmark.items) or draw(benchmark.source, list(_read(benchmark, data_dir and Path(data_dir))))
    if benchmark.select is not None:
        found = benchmark.select(found)
    if not found:
        raise SourceError(f"{benchmark.name}: the file has no items.", f"Compare it with {benchmark.source.homepage}.")
    if benchmark.count is not None and len(found) != benchmark.count:
        logger.warning("%s: %d items where %d are expected", benchmark.name, len(found), benchmark.count)
    found = _distinct(found)
    if limit is not None and limit < len(found):
        drawn = set(sorted((item.id for item in found), key=lambda id_: hashlib.sha256(id_.encode()).digest())[:limit])
        found = [item for item in found if item.id in drawn]
    instruction = INSTRUCTIONS[profile].get(benchmark.grader)
    if instruction is None:
        return found
    return [replace(item, prompt=f"{item.prompt}\n\n{instruction}", question=item.prompt) for item in found]


def data_record(benchmark: Benchmark, items: Sequence[Item]) -> dict[str, str]:
    """What results say of the data: repository, revision, and SHA-256 over ids, prompts, targets, and the system
    prompts and turns of items that have some."""
    rows = [[i.id, i.prompt, i.target, *([i.system, i.turns] if i.system or i.turns else [])] for i in items]
    sha256 = sha256_of(json.dumps(rows, ensure_ascii=True).encode())
    if benchmark.items:
        return {"repo": benchmark.title, "revision": "", "sha256": sha256}
    source = benchmark.source
    return {"repo": source.repository, "revision": source.revision, "sha256": sha256}


def _read(benchmark: Benchmark, data_dir: Path | None) -> Iterator[Item]:
    source = benchmark.source
    for row in read_source(source, data_dir, option="--data-dir"):
        try:
            item = benchmark.to_item(row)
        except (KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            absent = ", ".join(name for name in source.columns if name not in row)
            raise SourceError(
                f"{benchmark.name}: a row cannot be read as an item: {type(error).__name__}: {error}"
                + (f"; its file has no column {absent}." if absent else "."),
                f"Expected {', '.join(source.columns)}: compare with {source.homepage}.",
            ) from error
        if item is not None:
            yield item


def _distinct(found: Sequence[Item]) -> list[Item]:
    """The second item of the same id gets the id `<id>-2`, and so on."""
    seen: Counter[str] = Counter()
    distinct = []
    for item in found:
        seen[item.id] += 1
        distinct.append(item if seen[item.id] == 1 else replace(item, id=f"{item.id}-{seen[item.id]}"))
    return distinct
