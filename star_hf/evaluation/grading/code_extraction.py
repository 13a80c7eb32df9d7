"""Extracts the code of an answer as one program: blocks and their helpers, a bare body, a lambda or a method.

Nothing is run here; `code_execution.py` does that.
"""

import ast
import builtins
import re
import symtable
import textwrap


__all__ = ["complete_program", "extract_code"]

_FENCE = re.compile(r"^[ \t]*(`{3,}|~~~)(?P<kind>[^\n`]*)\n(?P<code>.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.M | re.S)


def extract_code(text: str, entry_point: str) -> str | None:
    """The code of an answer: the last block that defines the function, or else the last block.

    Blocks with definitions that it needs are put before it. A text without blocks is code if Python can parse it,
    alone or as the body of a function.
    """
    python = ([], ["python"], ["py"], ["python3"])
    blocks = [match["code"] for match in _FENCE.finditer(text) if match["kind"].lower().split()[:1] in python]
    if blocks:
        defining = [block for block in blocks if _defines(block, entry_point)]
        return _with_helpers((defining or blocks)[-1], [block for block in blocks if block not in defining])
    return text if _reads(text) or _reads(_as_body(text)) else None


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
