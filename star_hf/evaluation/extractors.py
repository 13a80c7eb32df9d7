"""What an answer says, read strictly: a number or formula, a letter, or code. The last word counts, never the thought.

Text that states no answer is `unparseable`, not wrong by a guess: the word "increasing" is no option I, and a number
in passing is no result. Formulas are compared by math-verify, code is run by `star_hf.evaluation.code_execution`.
"""

import ast
import builtins
import re
import symtable
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from .types import Answer, Item, Verdict


__all__ = [
    "choice_verdict",
    "complete_program",
    "extract_choice",
    "extract_code",
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
_FENCE = re.compile(r"^[ \t]*(`{3,}|~~~)(?P<kind>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S)
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


def extract_code(text: str, entry_point: str) -> str | None:
    """The code that a text gives as its answer: the last block that defines the function, or else the last block.

    Blocks of definitions that it needs are put before it. Text without a block is code itself where Python can read
    it, alone or as a body.

    Args:
        text (`str`): The answer, without its thought.
        entry_point (`str`): The function's name.
    """
    python = ([], ["python"], ["py"], ["python3"])
    blocks = [match["code"] for match in _FENCE.finditer(text) if match["kind"].lower().split()[:1] in python]
    if blocks:
        defining = [block for block in blocks if _defines(block, entry_point)]
        return _with_helpers((defining or blocks)[-1], [block for block in blocks if block not in defining])
    return text if _reads(text) or _reads(_as_body(text)) else None


def complete_program(signature: str, code: str, entry_point: str) -> str:
    """A program that defines the function: the code with what stood before the signature, or the body below it.

    A method, as of a `class Solution`, becomes the function through an instance.

    Args:
        signature (`str`): HumanEval's prompt: imports and helpers, then the function's head and docstring.
        code (`str`): As [`extract_code`] found it.
        entry_point (`str`): The function's name.
    """
    if _defines(code, entry_point):
        head = re.search(rf"^def {re.escape(entry_point)}\b", signature, re.MULTILINE)
        code = re.sub(r"^from __future__ .*", "", textwrap.dedent(code), flags=re.MULTILINE)  # it must come first
        holder = _class_around(code, entry_point)
        method = f"\n{entry_point} = {holder}().{entry_point}\n" if holder else ""
        return f"{signature[: head.start()] if head else ''}\n{code}\n{method}"
    return f"{signature.rstrip()}\n{_as_body(code).split(chr(10), 1)[1]}\n"


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


def _defines(code: str, name: str) -> bool:
    named = re.escape(name)
    return (
        re.search(rf"^[ \t]*(?:(?:async )?def {named}\b|{named}\s*(?::[^=\n]*)?=\s*lambda\b)", code, re.M) is not None
    )


def _with_helpers(code: str, blocks: list[str]) -> str:
    """The code below those blocks of definitions that have what it needs and lacks; no other block is run."""
    for block in reversed(blocks):
        if _missing(code) & _definitions(block):
            code = f"{textwrap.dedent(block)}\n\n{textwrap.dedent(code)}"
    return code


def _definitions(block: str) -> set[str]:
    """The names that a block defines, if it does nothing else: an example calls what it shows."""
    names: set[str] = set()
    for statement in _statements(block):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(statement.name)
            case ast.Import() | ast.ImportFrom():
                names.update((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not _calls(value):
                names.add(name)
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                return set()
    return names


def _missing(code: str) -> set[str]:
    """The global names that code refers to, and that neither it nor Python defines."""
    try:
        module = symtable.symtable(textwrap.dedent(code), "answer", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    tables, used = [module], set()
    for table in tables:
        tables.extend(table.get_children())
        used |= {name.get_name() for name in table.get_symbols() if name.is_referenced() and name.is_global()}
    bound = {name.get_name() for name in module.get_symbols() if name.is_assigned() or name.is_imported()}
    return used - bound - set(dir(builtins))


def _class_around(code: str, name: str) -> str | None:
    """The last class that has the function as a method, where it stands in no other place."""
    holder = None
    for statement in _statements(code):
        if isinstance(statement, ast.ClassDef):
            methods = [inner.name for inner in statement.body if isinstance(inner, ast.FunctionDef)]
            holder = statement.name if name in methods else holder
        elif _defines(ast.unparse(statement), name):
            return None
    return holder


def _calls(expression: ast.expr) -> bool:
    return any(isinstance(node, ast.Call) for node in ast.walk(expression))


def _statements(code: str) -> list[ast.stmt]:
    """The statements of code, none where Python cannot read it."""
    try:
        return ast.parse(textwrap.dedent(code)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _as_body(code: str) -> str:
    """Code as the body of a function, indented as one; the first line of a body sometimes comes without its indent."""
    first, _, rest = code.strip("\n").partition("\n")
    bodies = (textwrap.indent(textwrap.dedent(code.strip("\n")), "    "), f"    {first.strip()}\n{rest}")
    programs = [f"def body():\n{body}" for body in bodies]
    return next((program for program in programs if _reads(program)), programs[0])


def _reads(code: str) -> bool:
    """Whether Python can read code; prose of one word, which it can, is none."""
    body = _statements(code)
    inner = body[0].body if len(body) == 1 and isinstance(body[0], ast.FunctionDef) else body
    return any(not isinstance(statement, ast.Expr) for statement in inner)


def _graded(answer: Answer, judge: str, correct: bool, found: str) -> Verdict:
    label = "correct" if correct else "incorrect"
    return Verdict(answer.item_id, answer.sample, judge, label=label, value=float(correct), detail=found[:QUOTED])


def _failed(answer: Answer, judge: str, failure: str, detail: str = "") -> Verdict:
    return Verdict(answer.item_id, answer.sample, judge, failure=failure, detail=detail)
