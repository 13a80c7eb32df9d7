"""Text helpers for every room: normalisation, row ids, surrogates, counts, and the split of reasoning and answer."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import regex


__all__ = [
    "INVISIBLE",
    "Reasoned",
    "counted",
    "encodable",
    "encodable_values",
    "is_blank",
    "join_reasoning",
    "join_surrogates",
    "listed",
    "normalise",
    "row_id",
    "split_reasoning",
]

OPEN, CLOSE = "<think>", "</think>"

INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}\u0640]+")
"""Zero-width spaces and joiners, soft hyphens, and tatweel, which only stretches Arabic words."""

_BLANK = regex.compile(r"[\s\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\u2800]*")


def normalise(text: str) -> str:
    """Fold differences that do not change a question: Unicode compatibility forms, letter case, runs of whitespace."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_blank(text: str) -> bool:
    """Whether a text shows nothing: it has only spaces, control and invisible characters."""
    return _BLANK.fullmatch(text) is not None


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


def listed(names: Iterable[object], most: int = 20) -> str:
    """Names with commas between them: the first ones, of 40 characters at most, and the number of the others."""
    shown = [str(name) for name in names]
    rest = [f"{len(shown) - most:,} more"] if len(shown) > most else []
    return ", ".join([*(name if len(name) <= 40 else f"{name[:39]}…" for name in shown[:most]), *rest])


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
    is never an answer, and a response with several closing tags is not split. Other families' marks are understood
    too (`[THINK]`, `<thinking>`, channels). A text that only mentions the tags is an answer without a thought.

    Example:

    ```python
    >>> split_reasoning("<think>\\nThe policy forbids it.\\n</think>\\n\\nI can't help with that.")
    Reasoned(thought='The policy forbids it.', answer="I can't help with that.", problem=None)
    ```
    """
    text = _in_think_tags(text)
    if not text.lstrip().startswith(OPEN) and not _MENTION.sub("", text).count(CLOSE):
        if OPEN in _MENTION.sub("", text):
            return Reasoned(text.split(OPEN, 1)[1].strip(), None, "unclosed")
        return Reasoned(None, text.strip(), "no_reasoning")
    if text.count(CLOSE) > 1:
        return Reasoned(None, None, "ambiguous")
    thought, closed, answer = text.partition(CLOSE)
    thought = re.sub(rf"\A\s*{OPEN}", "", thought).strip()
    if not closed:
        return Reasoned(thought, None, "unclosed")
    answer = answer.strip()
    if OPEN in thought or OPEN in answer:
        return Reasoned(None, None, "ambiguous")
    problem = "empty_answer" if is_blank(answer) else "empty_thought" if is_blank(thought) else None
    return Reasoned(thought, answer, problem)


_MARKS = (
    *(("[THINK]", "[/THINK]"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("◁think▷", "◁/think▷")),
    *((f"<{name}>", f"</{name}>") for name in ("thinking", "thought", "seed:think")),
    *(("<|channel>thought\n", "<channel|>"), ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>")),
)
"""What families write around a thought in place of `<think>`: the table is in `docs/chat_templates.md`."""
_TURN_MARKS = re.compile(r"(?:<\|end\|>)?<\|start\|>assistant\Z|\s*<\|(?:end|return)\|>\s*\Z")
_BARE_CHANNELS = re.compile(r"\Aanalysis(?P<thought>.+?)assistantfinal(?P<answer>.*)\Z", re.S)
"""gpt-oss's channels, decoded without special tokens."""
_MENTION = re.compile(r"(?<=[\w,:;(] )</?think>(?=[ .,;:!?)])|(?<=[`'\"“‘])</?think>")
"""A tag that a sentence is about: "The tag </think> closes." """


def _in_think_tags(text: str) -> str:
    """A response in another family's marks, with `<think>` and `</think>` in their place."""
    if (found := _BARE_CHANNELS.match(text)) is not None:
        return f"{OPEN}{found['thought']}{CLOSE}{found['answer']}"
    start = text.lstrip()
    for opening, closing in _MARKS:
        if start.startswith(opening):
            thought, mark, answer = start.removeprefix(opening).partition(closing)
            thought, answer = _TURN_MARKS.sub("", thought), _TURN_MARKS.sub("", answer)
            return f"{OPEN}{thought}{CLOSE}{answer}" if mark else f"{OPEN}{thought}"
    return text


def join_reasoning(thought: str, answer: str) -> str:
    """The canonical response of the published data: `<think>`, thought, `</think>`, blank line, answer."""
    return f"{OPEN}\n{thought.strip()}\n{CLOSE}\n\n{answer.strip()}"
