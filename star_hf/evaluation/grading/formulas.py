"""Formulas in what models write: in a box, between delimiters, or bare in a sentence; and whether two are equal.

Formulas are compared by math-verify. Here is only what it leaves open: where a formula in a sentence ends, what
Unicode means in LaTeX, and that another base or a point is not the same answer as a list of numbers.
"""

import re
import threading
import unicodedata
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context


__all__ = ["as_latex", "bare", "boxes", "cleaned", "displayed", "leading", "same_math"]

PARSE_S = 3
"""Time limit for parsing formulas, and for comparing them, in seconds."""

DISPLAYED = re.compile(
    r"\$\$(?P<d>.+?)\$\$|(?<!\\)\$(?P<t>(?!\s)(?:\\.|[^\\$])+?)(?<!\s)\$|(?<!\\)\$\s(?P<w>(?:\\.|[^\\$])+?)\s\$"
    r"|\\\((?P<i>.+?)\\\)|\\\[(?P<b>.+?)\\\]",
    re.DOTALL,
)
"""A formula between delimiters. A dollar sign before a price, as in `$5 and $7`, is none."""

_SYMBOLS = {
    **{"−": "-", "–": "-", "⁻": "-", "⁺": "+", "⁄": "/", "∕": "/", "∶": ":", "≈": r"\approx ", "∅": r"\emptyset "},
    **{"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "∓": r"\mp ", "°": r"^\circ "},
    **{"∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne "},
    **{
        "π": r"\pi ",
        "θ": r"\theta ",
        "α": r"\alpha ",
        "β": r"\beta ",
        "λ": r"\lambda ",
        "φ": r"\phi ",
        "ω": r"\omega ",
    },
    **{"\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2061": ""},
}
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉"
_UNICODE = (
    (re.compile("[\uff01-\uff5e]+"), lambda m: unicodedata.normalize("NFKC", m[0])),
    (re.compile("[¼-¾⅐-⅞]"), lambda m: r"\frac{{{}}}{{{}}}".format(*unicodedata.normalize("NFKC", m[0]).split("⁄"))),
    (re.compile(f"[{_RAISED}]+"), lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}"),
    (re.compile(f"[{_LOWERED}]+"), lambda m: f"_{{{unicodedata.normalize('NFKC', m[0])}}}"),
    (re.compile(r"([√∛])\s*(?:\(([^()]*)\)|(\d+(?:\.\d+)?|[A-Za-z]))"), lambda m: _root(m[1], m[2] or m[3])),
    (re.compile("|".join(_SYMBOLS)), lambda m: _SYMBOLS[m[0]]),
)
# What stands for a formula in words; only where two formulas are compared.
_WORDS = (
    (re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"(?<![\\A-Za-z])infinity(?![A-Za-z])"), r"\\infty "),
    (re.compile(r"(?<![\w.}])(\d+) (\d+)/(\d+)(?![\w.])"), r"\1\\frac{\2}{\3}"),
)

# What is between boxes that are one statement.
_LISTED = re.compile(
    r"[\s$]*(?:\\[)\]]|\\q?quad|\\text\s*\{|[\s,])*(?:(?:or|and)\b|,)(?:[\s,}$]|\\[(\[ ,;]|\\q?quad|[a-z]\s*=)*"
)
_FUNCTIONS = r"(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|pi|infinity)"
_TOKEN = re.compile(
    rf"""\\(?:begin|end|text(?:bf|it|rm)?|mbox|math(?:rm|bf)|operatorname)\s*\{{[^{{}}]*\}}  # words that belong to it
    | \\[A-Za-z]+ | \\[^A-Za-z\n]
    | (?<![A-Za-z]) (?:{_FUNCTIONS} | [A-Za-z]) (?![A-Za-z'’])
    | \d+(?:,\d{{3}})*(?:\.\d+)? | \.\d+
    | [-+*/=^_(){{}}\[\]|!<>:,&~%$£€¥′'] | [^\S\n]+""",
    re.VERBOSE,
)
_UNFINISHED = re.compile(r"(?:[\s*_=+/:,;^&|<>~({\[-]|\\[ ,;!]|\\(?:left|times|cdot|in|le|ge|ne|approx|pm|to)\b)+$")
_NO_UNITS = r"(?:or|and|to|over|times|half|hundred|thousand|million|billion|trillion|dozen|less|more|of)\b"
_UNITS = re.compile(rf"\s*(?!{_NO_UNITS})[A-Za-z]{{2,}}(?:[ /-](?!{_NO_UNITS})[A-Za-z]+)*\.?(?:\^\{{?\d\}}?)?[.\s]*")
_JUDGED = r"(?:correct|right|certain|sure|accurate|valid|wrong|incorrect|confirmed|verified|true|false)\b"
_NO_FORMULA_AFTER = re.compile(rf"\s*(?:{_NO_UNITS}|{_JUDGED})", re.IGNORECASE)
_MODULO = re.compile(r"\s*(?:\\pmod\b|\\?\(\s*\\?(?:text\{)?mod\b).*", re.DOTALL)


def as_latex(text: str) -> str:
    """A text with mathematical Unicode as LaTeX: `2√3` as `2\\sqrt{3}`, `x²` as `x^{2}`, `½`, `∞`, `：` as `:`."""
    for pattern, replacement in _UNICODE:
        text = pattern.sub(replacement, text)
    return text


def boxes(text: str) -> list[tuple[int, str]]:
    """The position and content of each box that is closed; boxes with only "or", "and" or a comma between them are
    one statement, `3, 5`."""
    opened, closed = [], {}
    for brace in re.finditer(r"\\[{}]|[{}]", text):
        if brace[0] == "{":
            opened.append(brace.end())
        elif brace[0] == "}" and opened:
            closed[opened.pop()] = brace.start()
    found: list[tuple[int, int, str]] = []
    for match in re.finditer(r"\\(?:boxed|fbox)\s*\{", text):
        if match.end() not in closed:
            continue
        start, end = match.start(), closed[match.end()] + 1
        content = text[match.end() : end - 1]
        if found and _LISTED.fullmatch(text[found[-1][1] : start] if found[-1][1] <= start else "-"):
            start, _, before = found.pop()
            content = f"{before}, {content}"
        found.append((start, end, content))
    return [(start, content) for start, _, content in found]


def displayed(text: str) -> list[str]:
    """The formulas between delimiters."""
    return [_inside(match) for match in DISPLAYED.finditer(text)]


def _inside(match: re.Match) -> str:
    return next(filter(None, match.groups()))


def leading(text: str) -> tuple[str, str]:
    """The formula with which a text begins, `""` without one, and the rest of its line.

    Example:

    ```python
    >>> leading("x = 2\\\\pi since r is 1.")
    ('x = 2\\\\pi', 'since r is 1.')
    ```
    """
    line = text.partition("\n")[0].strip()
    if match := DISPLAYED.match(line):
        return _inside(match), line[match.end() :]
    end = 0
    while token := _TOKEN.match(line, end):
        end = token.end()
    formula = _balanced(_MODULO.sub("", line[:end]))
    if re.match(r"[A-Za-z]", line[len(formula) :].lstrip()):
        formula = re.sub(r"(?:^|(?<=\s))[aAI]\s*$", "", formula)
    formula = _UNFINISHED.sub("", formula)
    return formula, line[len(formula) :].lstrip()


def _balanced(text: str) -> str:
    """The longest start of a text in which no bracket is open; a bracket of any kind closes one of any kind."""
    depth, last = 0, 0
    for match in re.finditer(r"\\.|.", text, re.DOTALL):
        depth += {"(": 1, "[": 1, "{": 1, r"\{": 1, ")": -1, "]": -1, "}": -1, r"\}": -1}.get(match[0], 0)
        if depth < 0:
            break
        last = match.end() if depth == 0 else last
    return text[:last]


def bare(text: str) -> str | None:
    """The formula with which a statement begins: `44` of `44, since 2+2=4`, `44 (mod 83)` and `44 ways`.

    `None` where the words after it change its value, as in "3 million", "3 or more" and "100% correct", and where only
    a letter is before words. Formulas with "or" or "and" between them are a list.
    """
    formula, rest = leading(text)
    found = [formula]
    while formula and (link := re.match(r",?\s*(?:or|and)\s+", rest)):
        formula, after = leading(rest[link.end() :])
        if not re.search(r"[\d\\]", formula):
            break
        found.append(formula)
        rest = after
    formula = ", ".join(found)
    if _NO_FORMULA_AFTER.match(rest) or (re.match(r"[A-Za-z]", rest) and not re.search(r"[\d\\]", formula)):
        return None
    return formula or None


def cleaned(content: str) -> str | None:
    """A formula without Markdown, delimiters, currency, final period, modulus, and the unit after a number."""
    content = as_latex(content).replace("~", " ").strip().strip("*_`").strip()
    content = re.sub(r"(?<!\\)\.$", "", content).strip().strip("*_`").strip()
    content = _MODULO.sub("", content)
    content = re.sub(r"^(?:\\?\$|\\\(|[£€¥₹])|(?<!\\)(?:\$|\\\))$|[€£¥]$", "", content).strip()
    formula, rest = leading(content)
    if (
        re.search(r"\d", formula)
        and _UNITS.fullmatch(rest)
        and not re.search(r"[A-Za-z]", re.sub(r"\\\w+", "", formula))
    ):
        content = formula
    return content or None


def _root(sign: str, content: str) -> str:
    return rf"\sqrt{'' if sign == '√' else '[3]'}{{{content}}}"


def same_math(target: str, found: str) -> bool:
    """Whether two formulas in LaTeX are equal, by math-verify ([page](https://github.com/huggingface/Math-Verify)).

    A percent sign is optional if the target has none, as in MATH-500. Another base is another number, and a point or
    an interval is not a list in another order. math-verify's time limit is a signal, which works in the main thread
    only: in other threads it would silently call everything unequal, so they ask another process.
    """
    without = re.sub(r"\s*\\?%$", "", found)
    if target.replace(" ", "") in (found.replace(" ", ""), without.replace(" ", "")):
        return True
    bases = [_BASE.search(formula) for formula in (target, found)]
    if all(bases) and len({next(filter(None, base.groups())) for base in bases}) > 1:
        return False
    if _LIST.fullmatch(target) and _POINT.fullmatch(found) and _items(target) != _items(found):
        return False
    if threading.current_thread() is threading.main_thread():
        return _same_math(target, found)
    return _process().submit(_same_math, target, found).result()


_BASE = re.compile(r"\d_(?:(\d+)|\{(\d+)\}|\{?\\text\{(\w+)\}\}?)\s*$")
_LIST = re.compile(r"(?:[^(\[{,]|\{,\}|\\\w+\{[^{}]*\})+(?:,(?:[^(\[{,]|\\\w+\{[^{}]*\})+)+")
_POINT = re.compile(r"(?:\\left)?\s*\((.*?)(?:\\right)?\s*\)")


def _items(formula: str) -> list[str]:
    inside = _POINT.fullmatch(formula)
    return [re.sub(r"\s", "", item) for item in (inside[1] if inside else formula).split(",")]


def _same_math(target: str, found: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    # Never `ExprExtractionConfig`: sympy's parser evaluates its input.
    config = [LatexExtractionConfig()]
    for pattern, replacement in _WORDS:
        found = pattern.sub(replacement, found)
    read = [parse(f"${formula}$", config, parsing_timeout=PARSE_S) for formula in (target, found)]
    return bool(all(read) and verify(*read, timeout_seconds=PARSE_S))


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))
