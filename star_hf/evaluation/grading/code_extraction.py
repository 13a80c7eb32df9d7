"""Extracts the code of an answer as one program: blocks and their helpers, a bare body, a lambda or a method.

Nothing is run here; `code_execution.py` does that.
"""

import ast
import builtins
import re
import symtable
import textwrap
import warnings


__all__ = ["complete_program", "extract_code"]

LINES = 2000
"""Most lines of unfenced code."""

_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~~~)(?P<kind>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*\1[ \t]*$|(?<=\S)\1[ \t]*$|\Z)", re.M | re.S
)
_PYTHON = re.compile(r"[\s{.]*(?:i?python|py)(?:\s?\d[\d.]*)?(?![a-z])[\s,:}]*|\s*$", re.IGNORECASE)
"""The language of a fence: `python`, `Python 3`, `{.python}`, `python:file.py`, `ipython`, or none."""

_TAG = re.compile(r"</?(?:answer|code|python|pre|solution)>|\[/?(?:PYTHON|CODE|BEGIN|DONE|END)\]")
_QUOTED_LINE = re.compile(r"^[ \t]*> ?(?=\s*(?:`{3}|~~~|(?:def|class|from|import)\b))", re.MULTILINE)
_BEGINS = re.compile(r"(?P<indent>[ \t]*)(?:(?:async )?def|class|from|import|@|[A-Za-z_]\w*\s*(?::[^=\n]*)?=(?!=))")
_IN_BODY = re.compile(r"[ \t]+\S|(?:return|for|while|if|try|with|def|[A-Za-z_]\w*\s*(?::[^=\n]*)?=(?!=))")


def extract_code(text: str, entry_point: str) -> str | None:
    """The code of an answer: the last block that defines the function, or else the last block.

    Blocks with definitions that it needs are put before it. A text without fences is code if Python can parse it,
    alone or as the body of a function; or else what in it Python can parse, between tags, quotes and prose.
    """
    if _QUOTED_LINE.search(text):
        text = re.sub(r"^[ \t]*> ?(?!>)", "", text, flags=re.MULTILINE)
    if not (blocks := _fenced(text)):
        text = _TAG.sub("\n", text)
        if _reads(text) or _reads(_as_body(text)):
            return text
        blocks = _unfenced(text)
        if not any(_defines(block, entry_point) for block in blocks):
            return _body_in(text)
    defining = [block for block in blocks if _defines(block, entry_point)]
    return _with_helpers((defining or blocks)[-1], [block for block in blocks if block not in defining])


def _fenced(text: str) -> list[str]:
    """The blocks of Python between fences. Code may begin on the opening line and end on the closing one."""
    blocks = []
    for match in _FENCE.finditer(text):
        language = _PYTHON.match(match["kind"])
        begun = match["kind"][language.end() :] if language else ""
        whole = f"{begun}\n{match['code']}"
        if re.match(r"(?:def|class|from|import)\b", begun) or (begun and not _reads(match["code"]) and _reads(whole)):
            blocks.append(whole)
        elif language:
            blocks.append(match["code"])
    return blocks


def _unfenced(text: str) -> list[str]:
    """The blocks of a text that begin like code and that Python can parse, without fences around them."""
    blocks, lines, at = [], text.splitlines(), 0
    while at < len(lines):
        found = 0
        if begin := _BEGINS.match(lines[at]):
            indent, block = begin["indent"], []
            for line in lines[at:]:
                if line.strip() and not line.startswith(indent):
                    break
                block.append(line[len(indent) :])
            found, code = _parsed(block)
            blocks += [code] if found else []
        at += max(1, found)
    return blocks


def _body_in(text: str) -> str | None:
    """The lines of a text that are the body of a function, with a `return`, if there are some."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if _IN_BODY.match(line):
            block = textwrap.dedent("\n".join(lines[at:]))
            found, code = _parsed(["def body():", *textwrap.indent(block, "    ").splitlines()])
            if found and re.search(r"^\s+(?:return|yield)\b", code, re.MULTILINE):
                return textwrap.dedent(code.partition("\n")[2])
    return None


def _parsed(lines: list[str]) -> tuple[int, str]:
    """How many first lines Python can parse, and they, without expressions on lines of their own: those are prose."""
    lines = lines[:LINES]
    while lines:
        try:
            with warnings.catch_warnings(action="ignore"):
                body = ast.parse("\n".join(lines)).body
            break
        except SyntaxError as error:
            lines = lines[: min(len(lines), error.lineno or 1) - 1]
        except (ValueError, RecursionError, MemoryError):
            return 0, ""
    else:
        return 0, ""
    count = len(lines)
    for statement in body:
        if isinstance(statement, ast.Expr):
            lines[statement.lineno - 1 : statement.end_lineno] = [""] * (statement.end_lineno - statement.lineno + 1)
    return count, "\n".join(lines) + "\n"


def complete_program(signature: str, code: str, entry_point: str) -> str:
    """A program that defines the function: the code after the lines above the signature, or the body below it.

    A method, as of a `class Solution`, becomes the function through an instance. `signature` is HumanEval's prompt:
    imports and helpers, then the function's head and docstring.
    """
    if _defines(code, entry_point):
        head = re.search(rf"^def {re.escape(entry_point)}\b", signature, re.MULTILINE)
        code = re.sub(r"^from __future__ .*", "", textwrap.dedent(code), flags=re.MULTILINE)  # it must come first
        holder = _class_around(code, entry_point)
        method = f"\n{entry_point} = {holder}().{entry_point}\n" if holder else ""
        return f"{signature[: head.start()] if head else ''}\n{code}\n{method}"
    return f"{signature.rstrip()}\n{_as_body(code).split(chr(10), 1)[1]}\n"


def _defines(code: str, name: str) -> bool:
    named = re.escape(name)
    return (
        re.search(rf"^[ \t]*(?:(?:async )?def {named}\b|{named}\s*(?::[^=\n]*)?=\s*lambda\b)", code, re.M) is not None
    )


def _with_helpers(code: str, blocks: list[str]) -> str:
    """The code, below the blocks that define names it needs; other blocks are left out."""
    for block in reversed(blocks):
        if _missing(code) & _definitions(block):
            code = f"{textwrap.dedent(block)}\n\n{textwrap.dedent(code)}"
    return code


def _definitions(block: str) -> set[str]:
    """The names that a block defines, if it only defines; examples also call."""
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
    """The global names that code uses but neither it nor Python defines."""
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
    """The last class with the function as a method; `None` if it is also defined elsewhere."""
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
    """The statements of code; none if Python cannot parse it."""
    try:
        return ast.parse(textwrap.dedent(code)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _as_body(code: str) -> str:
    """Code as the body of a function. The first line of a body sometimes lacks its indent."""
    first, _, rest = code.strip("\n").partition("\n")
    bodies = (textwrap.indent(textwrap.dedent(code.strip("\n")), "    "), f"    {first.strip()}\n{rest}")
    programs = [f"def body():\n{body}" for body in bodies]
    return next((program for program in programs if _reads(program)), programs[0])


def _reads(code: str) -> bool:
    """Whether Python can parse code. A single word of prose, which it can, does not count."""
    body = _statements(code)
    inner = body[0].body if len(body) == 1 and isinstance(body[0], ast.FunctionDef) else body
    return any(not isinstance(statement, ast.Expr) for statement in inner)
