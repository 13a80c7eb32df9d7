"""Extracts the stated answer, strictly: a number, a formula or a letter. The last statement counts.

A text that states no answer is `unparseable`, not wrong by a guess: the word "increasing" is not option I, and a
number in passing is not a result. `formulas.py` reads and compares formulas; `code_extraction.py` extracts code.
"""

import re
from collections.abc import Callable
from itertools import chain, islice

from ..types import Item, Response, Verdict
from .formulas import DISPLAYED, as_latex, bare, boxes, cleaned, displayed, leading, same_math


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

QUOTED, STATEMENT = 200, 1000
"""Most characters of an answer in a verdict, and of what is read after "answer is"."""
TURNS = STATEMENTS = 20
"""Most further questions, and most sentences from the last one on, in which an answer is looked for."""

_ADVERB = (
    r"(?:therefore|thus|hence|clearly|indeed|(?:most )?likely|probably|exactly|simply|just|actually|equal to|still)"
)
_ANSWER = r"(?:\banswer\b|答案)"
_IS = rf"(?:\b(?:is|must be|should be)\b|是|为)[\s:]{{0,9}}(?:{_ADVERB}\b[\s,:]*)?"
# The word before an answer, in Markdown or not: `Answer:`, `**Final answer**:`, `answer is`, or as a heading.
_SAID = rf"(?:{_IS}|[*_`\"\s]{{0,9}}[:=]\s*|(?P<heading>[*_` ]{{0,9}}(?=\s{{0,9}}\n)))"
_ANNOUNCED = re.compile(rf"{_ANSWER}[*_`\s]{{0,9}}?(?P<is>{_SAID})", re.IGNORECASE)
_OPTION = re.compile(
    rf"(?:(?:{_ANSWER}|\b(?:correct|right|best) (?:choice|option)\b)[*_`\s]{{0,9}}?(?:{_SAID}|\s-\s)"
    rf"|\b(?:choice|option)\b[*_`\s]{{0,9}}{_IS})(?:[*_`(]*(?:choice|option)\b[\s:]*)?",
    re.IGNORECASE,
)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
# What leads to a statement from the beginning of its sentence: "So the final answer is", not "We check our answer:".
_PLAINLY = re.compile(
    r"(?:^|[\n.!?。:;*#_>)\]}$,-])\s*(?:(?:and|so|thus|hence|therefore|then|finally|overall|the|my|our|your|final|correct|right"
    r"|desired|required|exact|numerical|actual|true|best|short|new|corrected|this)\b[\s,*_]*)*$",
    re.IGNORECASE,
)
_DOUBTED = re.compile(
    r"\b(?:check|verif|confirm|test|doubt|wrong|incorrect|initial|previous|naive|tempting)\w*\b[^.!?\n]*$",
    re.IGNORECASE,
)
_NEXT_TURN = re.compile(
    r"^[-\s*#>]*(?:(?:question|problem|exercise|instruction|options|user|human|q)\s*\d*\s*[*_]*:|<\|\w+\|>|={2,}"
    r"|\[response\]|(?:answer:|\d+\.) the answer is)",
    re.IGNORECASE | re.MULTILINE,
)
"""A line with which a model goes on to another question, or to the same one again, as in the examples of a prompt."""


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

    The last statement in a box, in `<answer>`, after `Answer:` or "answer is" counts; beside a box, only a sentence
    that plainly states the answer does. Without a statement, it is the last line if that is only a formula, or the
    last formula between delimiters.

    Example:

    ```python
    >>> extract_math("At first \\\\boxed{3}, but no: **Answer:** 0.25")
    '0.25'
    >>> extract_math("\\\\boxed{44}. Checking the answer: it is below 50.")
    '44'
    >>> extract_math("The answer is increasing.") is None
    True
    ```
    """
    text = as_latex(text)
    if stated := _first_stated(text, _stated_math):
        return cleaned(stated)
    last_line = re.sub(r"^(?:#+|=+>?|\u2234|\u21d2|\u2192)\s*", "", text.strip().rpartition("\n")[2].strip("*_` "))
    formula, rest = leading(last_line)
    found = [last_line] if formula and not rest.strip(".") else displayed(text)
    return cleaned(found[-1]) if found else None


def _first_stated(text: str, read: Callable[[str], str | None]) -> str | None:
    """What a text states, by `read`, up to where it goes on to a further question once that is stated."""
    turns = (text[: match.start()] for match in islice(_NEXT_TURN.finditer(text), TURNS))
    return next(filter(None, map(read, chain(turns, [text]))), None)


def _stated_math(text: str) -> str | None:
    statements = [*boxes(text), *((match.start(), _tagged(match[1])) for match in _TAGGED.finditer(text))]
    beside, words = bool(statements), None
    for match in list(_ANNOUNCED.finditer(text))[: -STATEMENTS - 1 : -1]:  # from the last one
        if _is_statement(text, match, beside):
            strict = match["is"].lstrip('*_`" \n')[:1] not in ("", ":", "=")
            rest = text[match.end() :][:STATEMENT]
            if "\n" in match["is"]:
                rest = re.sub(r"^\s*[-+*•]\s+", "", rest)  # an item of a list
            formula, phrase = _announced(rest, strict)
            words = words or phrase
            if formula:
                statements.append((match.start(), formula))
                break
    if stated := [(start, content) for start, content in statements if content]:
        return max(stated)[1]
    return words


def _is_statement(text: str, match: re.Match, beside: bool) -> bool:
    """Whether an announcement states the answer: not in passing beside a box, and not where it is only checked."""
    before = text[max(0, match.start() - 100) : match.start()]
    plainly = _PLAINLY.search(before) is not None
    if match["heading"] is not None:
        return plainly and "\n" not in _PLAINLY.search(before)[0].lstrip()
    return _DOUBTED.search(before) is None and (plainly or not beside)


def _tagged(content: str) -> str | None:
    """The formula of `<answer>`; nothing where it is in a box."""
    if boxes(content):
        return None
    return ", ".join(displayed(content)) or next(filter(None, _announced(content, strict=False)), content)


def _announced(rest: str, strict: bool) -> tuple[str | None, str | None]:
    """The formula after `Answer:` or "answer is", or else words: on its line, or on the next if the line is empty.

    After "answer is" there must be a formula; other words continue the sentence. After `Answer:` it may be a sentence
    with one formula, or a few words.
    """
    emphasised = re.match(r"\s*\*\*(?=\S)(.+?)\*\*", rest)
    rest = emphasised[1] if emphasised else rest.lstrip(' \t*_`:#"').lstrip()
    line = rest.partition("\n")[0].strip()
    inside = displayed(line)
    if len(inside) > 1 and not re.sub(r"\b(?:or|and)\b|[\s,.]", "", DISPLAYED.sub("", line)):
        return ", ".join(inside), None
    if display := DISPLAYED.match(rest):
        return next(filter(None, display.groups())), None
    if "\\boxed" in line:
        return None, None
    if (formula := bare(line)) or strict:
        return formula, line if strict and re.fullmatch(r"[A-Z][a-z]+[.*]*", line) else None
    verb = list(re.finditer(r"\b(?:is|are|be|equals?|gives?)\b", DISPLAYED.sub(lambda m: "$" * len(m[0]), line)))
    if verb and (formula := bare(line[verb[-1].end() :])):
        return formula, None
    if inside:
        return inside[-1], None
    numbers = re.findall(r"(?<![\w.])-?(?:\d[\d,]*\d|\d)(?:\.\d+)?(?![\w%^_])", line)
    if len(numbers) == 1 and not re.match(rf"{re.escape(numbers[0])}\b", line):
        return numbers[0], None
    return None, line if len(line.split()) <= 3 or line[:1].isdigit() else None


def extract_choice(text: str, letters: str) -> str | None:
    """The letter that a text states as its answer; `letters` are the options, such as `"ABCD"`.

    The last statement in a box, in `<answer>`, after `Answer:`, "answer is" or "correct option is", or as in "C is
    correct" counts. Without one, it is a last or first line that is only a letter, or the only line that begins with
    one, as `C) iron` does, if that is the first or the last. The `C` of "Correct" and the article in "A good one" do
    not count. Two letters, or one that is not an option, are not an answer.

    Example:

    ```python
    >>> extract_choice("Answer: B? No. The answer is **C**, because iron is a metal.", "ABCD")
    'C'
    ```
    """
    text = as_latex(text)
    found = _first_stated(text, _stated_letter)
    if found is None:
        first, *others = text.strip().split("\n")
        last = others[-1] if others else first
        found = _letter(last, whole=True) or _letter(first, whole=True)
        if not found and (option := _OPTION_LINE.match(last)):
            found = option["letter"]
        labels = [line for line in (first, *others) if _LABEL.match(line)]
        if not found and labels == [last]:
            found = _letter(last)
        elif not found and first in labels and (label := _LABEL.match(first)) and label["mark"] == ")":
            found = _letter(first)
    return found if found and len(found) == 1 and found in letters else None


def _stated_letter(text: str) -> str | None:
    stated = [*boxes(text), *((match.start(), match[1]) for match in _TAGGED.finditer(text))]
    statements = [(start, _named(content, whole=not _LABEL.match(content))) for start, content in stated]
    statements += [
        (match.start(), _letter(text[match.end() :].lstrip(" \t*_`\n#") if match["heading"] else text[match.end() :]))
        for match in _OPTION.finditer(text)
        if match["heading"] is None or _is_statement(text, match, beside=True)
    ]
    if stated := [(start, letter) for start, letter in statements if letter]:
        return max(stated)[1]
    return max(((match.start(), match["letter"]) for match in _CORRECT.finditer(text)), default=(0, None))[1]


_OPENING = r"(?:[\s*_`$\"'(\[{]|\\[(\[]){0,12}(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?[\s*_`(\[]{0,6}"
_CLOSING = r"(?:[*_`$\"')\]}]|\\[)\]]){0,12}"
_ALONE = r"(?![A-Za-z0-9]|'[A-Za-z]|-\w)"
_LETTER = re.compile(rf"{_OPENING}(?P<letter>[A-Za-z]){_ALONE}(?P<closing>{_CLOSING})(?P<rest>[^\n]*)")
_LABEL = re.compile(rf"{_OPENING}[A-Z][*_`]*(?P<mark>[).:])[*_`]*(?:\s|$)")
_OPTION_LINE = re.compile(
    rf"[\s*_]{{0,6}}(?:(?i:option|choice)|It is|It's)\s{_OPENING}(?P<letter>[A-Z]){_ALONE}{_CLOSING}(?:[.:)]|$)"
)
_SECOND = re.compile(
    rf"\s*,?\s*(?:or|and|/|,|&)\s*(?:(?:possibly|perhaps|maybe|even|also) )?[*_`(]*(?![AI] [a-z])[A-Z]{_ALONE}"
)
_CORRECT = re.compile(
    r"(?:(?:^|[.:;,!?*]|\b(?i:so|thus|hence|therefore|that|only)\b)\s?[*_]{0,3}"
    r"(?i:the )?(?:(?i:option|choice|answer)\s+)?"
    rf"|\b(?i:option|choice)\s+){_OPENING}(?P<letter>[A-Z]){_ALONE}{_CLOSING}\s+is\s+(?:{_ADVERB}\s+)?(?:the\s+)?"
    r"(?:only\s+)?(?:correct|right|best)\b(?!\s+(?:if|only|when|for|in|but)\b)",
    re.MULTILINE,
)
_REASON = re.compile(r"\s+(?:because|since|as|for|is|with)\b")


def _named(text: str, whole: bool = False) -> str | None:
    """The letter of a box or tag, with or without the word "option" before it."""
    words = re.match(
        r"[\s$*_{(\\a-z]*?(?:the )?(?:correct |final )?\b(?:option|choice|answer)\b(?: is)?[\s:}*_~\\]*", text, re.I
    )
    return _letter(text[words.end() :] if words else text, whole and not words)


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
