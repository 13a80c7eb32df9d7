"""Text helpers for every room: normalisation, row ids, surrogates, counts, and the split of reasoning and answer."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


__all__ = [
    "Reasoned",
    "counted",
    "encodable",
    "encodable_values",
    "join_reasoning",
    "join_surrogates",
    "normalise",
    "row_id",
    "split_reasoning",
]

OPEN, CLOSE = "<think>", "</think>"


def normalise(text: str) -> str:
    """Fold differences that do not change a question: Unicode compatibility forms, letter case, runs of whitespace."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def encodable(text: str) -> str:
    """Replace lone surrogates, which JSON allows but UTF-8, Parquet and HTTP do not, by `?`."""
    return text.encode("utf-8", "replace").decode("utf-8")


def encodable_values(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with [`encodable`] strings."""
    return {name: encodable(value) if isinstance(value, str) else value for name, value in row.items()}


def join_surrogates(text: str) -> str:
    """Join the surrogate halves that belong together, and replace the others by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def counted(count: int, noun: str) -> str:
    """A count and its noun, such as `"1 row"` and `"3,000 rows"`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def row_id(question: str) -> str:
    """First 16 hex digits of the SHA-256 of the normalised question: the same on every machine and in every run."""
    return hashlib.sha256(normalise(question).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Reasoned:
    """A response, split into its thought, without tags, and what the user sees; `None` where there is no such part.

    `problem` says why the response is not a thought followed by an answer: `"no_reasoning"`, `"unclosed"`,
    `"ambiguous"` (several closing tags), `"empty_thought"` or `"empty_answer"`.
    """

    thought: str | None
    answer: str | None
    problem: str | None = None


def split_reasoning(text: str) -> Reasoned:
    """Split a response into thought and answer.

    The opening tag may be missing, since R1's chat template writes it into the prompt. A thought that never closes
    is never an answer, and a response with several closing tags is not split.

    Example:

    ```python
    >>> split_reasoning("<think>\\nThe policy forbids it.\\n</think>\\n\\nI can't help with that.")
    Reasoned(thought='The policy forbids it.', answer="I can't help with that.", problem=None)
    ```
    """
    closings = text.count(CLOSE)
    if closings > 1:
        return Reasoned(None, None, "ambiguous")
    if closings == 0:
        if OPEN in text:
            return Reasoned(text.split(OPEN, 1)[1].strip(), None, "unclosed")
        return Reasoned(None, text.strip(), "no_reasoning")
    thought, answer = text.split(CLOSE)
    thought = re.sub(rf"\A\s*{OPEN}", "", thought).strip()
    answer = answer.strip()
    if OPEN in thought or OPEN in answer:
        return Reasoned(None, None, "ambiguous")
    problem = "empty_answer" if not answer else "empty_thought" if not thought else None
    return Reasoned(thought, answer, problem)


def join_reasoning(thought: str, answer: str) -> str:
    """The canonical response of the published data: `<think>`, thought, `</think>`, blank line, answer."""
    return f"{OPEN}\n{thought.strip()}\n{CLOSE}\n\n{answer.strip()}"
