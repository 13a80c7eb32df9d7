"""In which language a data set is, and the thoughts and answers that leave the language of their question."""

from collections import Counter
from functools import cache
from typing import TYPE_CHECKING

from ..similarity.pairs import OnProgress
from ..utils.text import split_reasoning
from .rows import Rows
from .types import Finding, Hit


if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

__all__ = ["SURE", "check_language", "language_of"]

SURE = 0.9
"""Least confidence that counts. Of STAR-1's questions, of 15 words in the middle, that leaves 12 % undecided."""


def check_language(rows: Rows, on_progress: OnProgress | None = None) -> tuple[list[Finding], dict[str, int]]:
    """Find the language of each question, and of each thought and answer.

    R1 and its distills are known to change the language within one response (DeepSeek-R1, arXiv:2501.12948,
    Section 2.3.2), and what is trained on such thoughts learns to.

    Args:
        rows ([`Rows`]): The rows.
        on_progress (`Callable`, *optional*): Called with how many rows are done, and how many there are.

    Returns:
        The findings, and how many questions are in each language, `"undecided"` among them.
    """
    languages = []
    for done, (question, response) in enumerate(zip(rows.questions, rows.responses, strict=True), start=1):
        parts = split_reasoning(response or "")
        languages.append([language_of(text or "") for text in (question, parts.thought, parts.answer)])
        if on_progress is not None:
            on_progress(done, len(rows))
    of_questions = [question for question, _, _ in languages]
    sure = Counter(filter(None, of_questions))
    usual = min(sure, key=lambda language: (-sure[language], language), default=None)
    mixed = tuple(
        Hit(index, rows.ids[index], detail=f"{part} {language}, question {asked}")
        for index, (question, *spoken) in enumerate(languages)
        if (asked := question or usual)
        for part, language in zip(("thought", "answer"), spoken, strict=True)
        if language not in (None, asked)
    )
    other = tuple(
        Hit(index, rows.ids[index], detail=language)
        for index, language in enumerate(of_questions)
        if language not in (None, usual)
    )
    findings = []
    if mixed:
        words = "A thought or an answer in another language than the question."
        findings.append(Finding("mixed_language", "warning", words, mixed))
    if other:
        words = f"A question in another language than {usual}, the usual one here."
        findings.append(Finding("other_language", "note", words, other))
    return findings, dict(Counter(language or "undecided" for language in of_questions).most_common())


def language_of(text: str) -> str | None:
    """The language of a text as its ISO 639 code, or `None` where that is not sure.

    Decided by [py3langid](https://github.com/adbar/py3langid), a model of byte n-grams. Short texts are often not
    sure, nor are close relatives such as Indonesian and Malay.
    """
    if not any(character.isalpha() for character in text):
        return None
    language, confidence = _identifier().classify(text)
    return language if confidence >= SURE else None


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # half a second, spared to those who audit nothing

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
