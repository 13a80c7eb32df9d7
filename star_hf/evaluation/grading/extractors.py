"""What an answer says, read strictly: a number or formula, or a letter. The last word counts, never the thought.

Text that states no answer is `unparseable`, not wrong by a guess: the word "increasing" is no option I, and a number
in passing is no result. Formulas are compared by math-verify. Code is found by `code_extraction.py`.
"""

import re
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from ..types import Answer, Item, Verdict


__all__ = [
    "choice_verdict",
    "extract_choice",
    "extract_math",
    "math_verdict",
    "same_math",
]

MATH_VERIFY, CHOICE = "math-verify", "last-letter"
"""Who says so, in verdicts."""

QUOTED = 200
PARSE_S = 3
"""Seconds that a formula may take to be read, and to be compared."""

_ADVERB = r"(?:therefore|thus|hence|clearly|indeed|(?:most )?likely|probably)"
_IS = rf"\b(?:is|must be|should be)\b[\s:]*(?:{_ADVERB}\b[\s,:]*)?"
# The word that announces an answer, in Markdown or not: `Answer:`, `**Final answer**:`, `answer is`.
_ANNOUNCED = re.compile(rf"\banswer\b[*_`\s]*(?P<is>{_IS}|[:=]\s*)", re.IGNORECASE)
_OPTION = re.compile(
    rf"(?:\banswer\b[*_`\s]*(?:{_IS}|[:=]\s*)|\b(?:choice|option)\b[*_`\s]*{_IS})(?:[*_`]*(?:choice|option)\b\s*)?",
    re.I,
)
_DISPLAYED = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"[-+\u2212]?\$?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?(?:\s*\\?%)?")
# What makes a number the beginning of something longer: `2+3`, `2x`, `3\sqrt{2}`, `10^6`, `3:4`.
_GOES_ON = re.compile(r"[A-Za-z]\b|\\(?![%)\],; ])|[(!^√π]|:\d|\s*[-+*/=×^]\s*(?:[\d\\({√π]|[A-Za-z]\b)")
_NO_UNITS = r"(?:pi|sqrt|or|and|to|over|times|half|hundred|thousand|million|billion|trillion)\b"
_UNITS = re.compile(rf"(?P<number>\\?\$?[-+]?\d[\d.,/]*)\s+(?!{_NO_UNITS})[A-Za-z]{{2}}(?:[A-Za-z]| (?!{_NO_UNITS}))*")
_SYMBOLS = str.maketrans({"\u2212": "-", "\u03c0": r"\pi ", "\u00d7": r"\times ", "\u00b0": r"^\circ ", "\u00a0": " "})


def math_verdict(item: Item, answer: Answer) -> Verdict:
    """Whether an answer's formula equals the item's target; a failed answer keeps its failure."""
    if answer.failure:
        return _failed(answer, MATH_VERIFY, answer.failure)
    found = extract_math(answer.answer or "")
    if found is None:
        return _failed(answer, MATH_VERIFY, "unparseable", "no answer is stated")
    return _graded(answer, MATH_VERIFY, same_math(item.target or "", found), found)


def choice_verdict(item: Item, answer: Answer) -> Verdict:
    """Whether an answer's letter is the item's target; a failed answer keeps its failure."""
    if answer.failure:
        return _failed(answer, CHOICE, answer.failure)
    found = extract_choice(answer.answer or "", item.facts["letters"])
    if found is None:
        return _failed(answer, CHOICE, "unparseable", "no single letter is stated")
    return _graded(answer, CHOICE, found == item.target, found)


def extract_math(text: str) -> str | None:
    """The formula that a text gives as its answer, without its delimiters.

    Of what is boxed and what is announced by `Answer:` or "answer is", the last counts; with neither, a last line that
    is nothing but a number, or the last formula between delimiters.

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

    A percent sign that the target leaves to the question, as MATH-500's do, may be written or not. math-verify's time
    limit is a signal, which only a main thread can have: in any other it would fail without a word and call everything
    unequal. From there a process of its own is asked.
    """
    bare = re.sub(r"\s*\\?%$", "", found)
    if target.replace(" ", "") in (found.replace(" ", ""), bare.replace(" ", "")):
        return True
    if threading.current_thread() is threading.main_thread():
        return _same_math(target, found)
    return _process().submit(_same_math, target, found).result()


def extract_choice(text: str, letters: str) -> str | None:
    """The letter that a text gives as its answer.

    Of what is boxed and what is announced by `Answer:`, "answer is" or "correct option is", the last counts; with
    neither, a last or first line that is nothing but a letter, or a text that begins with one as in `C) iron`. A
    letter stands alone: the `C` of "Correct" and the article `A` of "A good one" are none. Two letters, or one that is
    no option, are no answer.

    Args:
        text (`str`): The answer, without its thought.
        letters (`str`): The options, such as `"ABCD"`.

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
    """Where each box stands and what is in it; a box that does not close holds nothing."""
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
    """The formula after an announcement: on its line, or on the next where that is all there is.

    After "answer is" only a number or a formula between delimiters is one; other words go on as a sentence.
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
    """What stands between the delimiters of formulas."""
    return [next(filter(None, groups)) for groups in _DISPLAYED.findall(text)]


def _formula(content: str) -> str | None:
    """A formula without Markdown, delimiters, currency, a closing point, or the units behind a number."""
    content = content.translate(_SYMBOLS).strip().strip("*_`").strip()
    content = re.sub(r"(?<!\\)\.$", "", content).strip().strip("*_`").strip()
    content = re.sub(r"^\\?\$|(?<!\\)\$$", "", content).strip()
    if units := _UNITS.fullmatch(content):
        content = units["number"]
    return content or None


def _same_math(target: str, found: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    # Never `ExprExtractionConfig`: sympy's parser behind it evaluates what it reads.
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
    """The letter that stands at the start of a text, several joined where it names several, or `None`."""
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


def _graded(answer: Answer, judge: str, correct: bool, found: str) -> Verdict:
    label = "correct" if correct else "incorrect"
    return Verdict(answer.item_id, answer.sample, judge, label=label, value=float(correct), detail=found[:QUOTED])


def _failed(answer: Answer, judge: str, failure: str, detail: str = "") -> Verdict:
    return Verdict(answer.item_id, answer.sample, judge, failure=failure, detail=detail)
