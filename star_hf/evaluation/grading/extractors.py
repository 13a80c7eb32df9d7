"""Extracts the stated answer, strictly: a number, a formula or a letter. The last statement counts.

A text that states no answer is `unparseable`, not wrong by a guess: the word "increasing" is not option I, and a
number in passing is not a result. Formulas are compared by math-verify. `code_extraction.py` extracts code.
"""

import re
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from ..types import Item, Response, Verdict


__all__ = [
    "choice_verdict",
    "extract_choice",
    "extract_math",
    "failed",
    "graded",
    "math_verdict",
    "same_math",
]

MATH_VERIFY, CHOICE = "math-verify", "last-letter"
"""Names of these graders in verdicts."""

QUOTED = 200
PARSE_S = 3
"""Time limit for parsing formulas, and for comparing them, in seconds."""

_ADVERB = r"(?:therefore|thus|hence|clearly|indeed|(?:most )?likely|probably)"
_IS = rf"\b(?:is|must be|should be)\b[\s:]*(?:{_ADVERB}\b[\s,:]*)?"
# The word before an answer, in Markdown or not: `Answer:`, `**Final answer**:`, `answer is`.
_ANNOUNCED = re.compile(rf"\banswer\b[*_`\s]*(?P<is>{_IS}|[:=]\s*)", re.IGNORECASE)
_OPTION = re.compile(
    rf"(?:\banswer\b[*_`\s]*(?:{_IS}|[:=]\s*)|\b(?:choice|option)\b[*_`\s]*{_IS})(?:[*_`]*(?:choice|option)\b\s*)?",
    re.I,
)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"[-+\u2212]?\$?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?")
# A number goes on as something longer: `2+3`, `2x`, `3\sqrt{2}`, `10^6`, `3:4`.
_GOES_ON = re.compile(r"[A-Za-z]\b|\\(?![%)\],; ])|[(!^√π]|:\d|\s*[-+*/=×^]\s*(?:[\d\\({√π]|[A-Za-z]\b)")
_NO_UNITS = r"(?:pi|sqrt|or|and|to|over|times|half|hundred|thousand|million|billion|trillion)\b"
_UNITS = re.compile(rf"(?P<number>\\?\$?[-+]?\d[\d.,/]*)\s+(?!{_NO_UNITS})[A-Za-z]{{2}}(?:[A-Za-z]| (?!{_NO_UNITS}))*")
_SYMBOLS = str.maketrans({"\u2212": "-", "\u03c0": r"\pi ", "\u00d7": r"\times ", "\u00b0": r"^\circ ", "\u00a0": " "})


def math_verdict(item: Item, answer: Response) -> Verdict:
    """The verdict whether an answer's formula equals the item's target; a failed answer keeps its failure."""
    if answer.failure:
        return failed(answer, MATH_VERIFY, answer.failure)
    found = extract_math(answer.answer or "")
    if found is None:
        return failed(answer, MATH_VERIFY, "unparseable", "no answer is stated")
    return graded(answer, MATH_VERIFY, same_math(item.target or "", found), found)


def choice_verdict(item: Item, answer: Response) -> Verdict:
    """The verdict whether an answer's letter is the item's target; a failed answer keeps its failure."""
    if answer.failure:
        return failed(answer, CHOICE, answer.failure)
    found = extract_choice(answer.answer or "", item.facts["letters"])
    if found is None:
        return failed(answer, CHOICE, "unparseable", "no single letter is stated")
    return graded(answer, CHOICE, found == item.target, found)


def extract_math(text: str) -> str | None:
    """The formula that a text states as its answer, without delimiters.

    The last statement in a box or after `Answer:` or "answer is" counts. Without one, it is the last line if that is
    only a number, or the last formula between delimiters.

    Example:

    ```python
    >>> extract_math("At first \\\\boxed{3}, but no: **Answer:** 0.25")
    '0.25'
    >>> extract_math("The answer is increasing.") is None
    True
    ```
    """
    statements = _boxed(text)
    for match in _ANNOUNCED.finditer(text):
        content = _announced_math(text[match.end() :], strict=match["is"][0] not in ":=")
        if content is not None:
            statements.append((match.start(), content))
    if statements:
        return _formula(max(statements)[1])
    last_line = text.strip().rpartition("\n")[2].strip("*_` .")
    found = [last_line] if _NUMBER.fullmatch(last_line) else _displayed(text)
    return _formula(found[-1]) if found else None


def same_math(target: str, found: str) -> bool:
    """Whether two formulas in LaTeX are equal, by math-verify ([page](https://github.com/huggingface/Math-Verify)).

    A percent sign is optional if the target has none, as in MATH-500. math-verify's time limit is a signal, which
    works in the main thread only: in other threads it would silently call everything unequal, so they ask another
    process.
    """
    bare = re.sub(r"\s*\\?%$", "", found)
    if target.replace(" ", "") in (found.replace(" ", ""), bare.replace(" ", "")):
        return True
    if threading.current_thread() is threading.main_thread():
        return _same_math(target, found)
    return _process().submit(_same_math, target, found).result()


def extract_choice(text: str, letters: str) -> str | None:
    """The letter that a text states as its answer; `letters` are the options, such as `"ABCD"`.

    The last statement in a box or after `Answer:`, "answer is" or "correct option is" counts. Without one, it is a
    last or first line that is only a letter, or a letter at the start as in `C) iron`. The `C` of "Correct" and the
    article in "A good one" do not count. Two letters, or one that is not an option, are not an answer.

    Example:

    ```python
    >>> extract_choice("Answer: B? No. The answer is **C**, because iron is a metal.", "ABCD")
    'C'
    ```
    """
    statements = [(start, _letter(content, whole=not _LABEL.match(content))) for start, content in _boxed(text)]
    statements += [(match.start(), _letter(text[match.end() :])) for match in _OPTION.finditer(text)]
    if statements := [(start, letter) for start, letter in statements if letter]:
        found = max(statements)[1]
    else:
        first, *others = text.strip().split("\n")
        found = _letter(others[-1] if others else first, whole=True) or _letter(first, whole=True)
        label = _LABEL.match(first)
        if not found and label and (label["mark"] == ")" or not others):
            found = _letter(first)
    return found if found and len(found) == 1 and found in letters else None


def _boxed(text: str) -> list[tuple[int, str]]:
    """The position and content of each box that is closed."""
    found = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        depth, end = 1, match.end()
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0) if text[end - 1] != "\\" else 0
            end += 1
        if not depth:
            found.append((match.start(), text[match.end() : end - 1]))
    return found


def _announced_math(rest: str, strict: bool) -> str | None:
    """The formula after `Answer:` or "answer is": on its line, or on the next if the line is empty.

    After "answer is" it must be a number or between delimiters; other words continue the sentence.
    """
    emphasised = re.match(r"\s*\*\*(?=\S)(.+?)\*\*", rest)
    rest = emphasised[1] if emphasised else rest.lstrip(" \t*_`:").lstrip()
    line = rest.partition("\n")[0].strip()
    inside = _displayed(line)
    if len(inside) > 1 and not re.sub(r"\b(?:or|and)\b|[\s,.]", "", _DISPLAYED.sub("", line)):
        return ", ".join(inside)
    if display := _DISPLAYED.match(rest):
        return next(filter(None, display.groups()))
    if "\\boxed" in line:
        boxes = _boxed(line)
        return boxes[-1][1] if boxes else None
    if strict:
        number = _NUMBER.match(line)
        return number[0] if number and not _GOES_ON.match(line, number.end()) else None
    return inside[-1] if inside else line or None


def _displayed(text: str) -> list[str]:
    """The formulas between delimiters."""
    return [next(filter(None, groups)) for groups in _DISPLAYED.findall(text)]


def _formula(content: str) -> str | None:
    """A formula without Markdown, delimiters, currency, final period, and the unit after a number."""
    content = content.translate(_SYMBOLS).strip().strip("*_`").strip()
    content = re.sub(r"(?<!\\)\.$", "", content).strip().strip("*_`").strip()
    content = re.sub(r"^\\?\$|(?<!\\)\$$", "", content).strip()
    if units := _UNITS.fullmatch(content):
        content = units["number"]
    return content or None


def _same_math(target: str, found: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    # Never `ExprExtractionConfig`: sympy's parser evaluates its input.
    config = [LatexExtractionConfig()]
    read = [parse(f"${formula}$", config, parsing_timeout=PARSE_S) for formula in (target, found)]
    return bool(all(read) and verify(*read, timeout_seconds=PARSE_S))


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


_OPENING = r"(?:[\s*_`$\"'(\[{]|\\[(\[])*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?[\s*_`(\[]*"
_CLOSING = r"(?:[*_`$\"')\]}]|\\[)\]])*"
_ALONE = r"(?![A-Za-z0-9']|-\w)"
_LETTER = re.compile(rf"{_OPENING}(?P<letter>[A-Za-z]){_ALONE}(?P<closing>{_CLOSING})(?P<rest>[^\n]*)")
_LABEL = re.compile(rf"{_OPENING}[A-Z][*_`]*(?P<mark>[).:])[*_`]*(?:\s|$)")
_SECOND = re.compile(
    rf"\s*,?\s*(?:or|and|/|,|&)\s*(?:(?:possibly|perhaps|maybe|even|also) )?[*_`(]*(?![AI] [a-z])[A-Z]{_ALONE}"
)
_REASON = re.compile(r"\s+(?:because|since|as|for|is|with)\b")


def _letter(text: str, whole: bool = False) -> str | None:
    """The letter at the start of a text, with a `+` if more follow; `None` if there is none."""
    match = _LETTER.match(text)
    if match is None:
        return None
    letter, rest = match["letter"], match["rest"]
    bare = not match["closing"] and re.match(r"\s+[A-Za-z]", rest)
    if whole and (rest.strip(" .*_`") or text[match.end() :].strip()):
        return None
    if letter.islower() and re.search(r"[A-Za-z]", rest.lstrip(".")) and not match["closing"].startswith(")"):
        return None
    if letter in "AI" and bare and not _REASON.match(rest):
        return None
    if _SECOND.match(rest):
        return letter.upper() + "+"
    return letter.upper()


def graded(answer: Response, judge: str, correct: bool, detail: str) -> Verdict:
    """The verdict on an answer that could be compared with the target."""
    label = "correct" if correct else "incorrect"
    return Verdict(answer.item_id, answer.sample, judge, label=label, value=float(correct), detail=detail[:QUOTED])


def failed(answer: Response, judge: str, failure: str, detail: str = "") -> Verdict:
    """The verdict on an answer that has no value, with the failure's name."""
    return Verdict(answer.item_id, answer.sample, judge, failure=failure, detail=detail)
