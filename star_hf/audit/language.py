"""The languages of a data set, and responses in another language than their question."""

from collections import Counter

from ..similarity.pairs import OnProgress
from ..utils.language import language_of
from ..utils.text import split_reasoning
from .rows import Rows
from .types import Finding, Hit, row_findings


__all__ = ["check_language"]


def check_language(rows: Rows, on_progress: OnProgress | None = None) -> tuple[list[Finding], dict[str, int]]:
    """Find the language of each question, reasoning and answer, and the number of questions in each, or `"undecided"`.

    R1 and its distills are known to change the language within a response (DeepSeek-R1, arXiv:2501.12948, Section
    2.3.2), and a model trained on such reasoning learns to do so.
    """
    languages = []
    for done, (question, response) in enumerate(zip(rows.questions, rows.responses, strict=True), start=1):
        parts = split_reasoning(response or "")
        languages.append([language_of(text or "") for text in (question, parts.thought, parts.answer)])
        if on_progress is not None:
            on_progress(done, len(rows))
    questions = [question for question, _, _ in languages]
    sure = Counter(filter(None, questions))
    usual = min(sure, key=lambda language: (-sure[language], language), default=None)
    mixed = tuple(
        Hit(index, rows.ids[index], detail=f"{part} {language}, question {expected}")
        for index, (question, *spoken) in enumerate(languages)
        if (expected := question or usual)
        for part, language in zip(("thought", "answer"), spoken, strict=True)
        if language not in (None, expected)
    )
    summary = "The reasoning or the answer is in another language than the question."
    findings = [Finding("mixed_language", "warning", summary, mixed)] if mixed else []
    summary = f"The question is in another language than most ({usual})."
    other = (language if language != usual else None for language in questions)
    findings += row_findings("other_language", "note", summary, rows.ids, other)
    return findings, dict(Counter(language or "undecided" for language in questions).most_common())
