"""The Jinja environment of prompts: a sandbox in which a template of the user's own cannot run for ever."""

from collections.abc import Iterable, Iterator, Sized
from contextvars import ContextVar
from typing import Any

from jinja2 import Template, nodes
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment


__all__ = ["Sandbox", "line_of", "limited"]

MOST_STEPS = 100_000
"""Rounds of loops and calls in one text; STAR-1's policies need about a hundred."""

MOST_CHARS = 10_000_000

_steps: ContextVar[list[int]] = ContextVar("steps")


def limited(pieces: Iterable[str]) -> str:
    """The pieces of one text, put together; a `SecurityError` if its template does not come to an end."""
    token, texts, length = _steps.set([MOST_STEPS]), list[str](), 0
    try:
        for piece in pieces:
            texts.append(piece)
            length += len(piece)
            if length > MOST_CHARS:
                raise SecurityError(f"the text has more than {MOST_CHARS:,} characters")
    finally:
        _steps.reset(token)
    return "".join(texts)


def line_of(error: BaseException) -> tuple[str, int] | None:
    """The template and the line in which an error was raised, which is the innermost one."""
    found, trace = None, error.__traceback__
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template) and template.name is not None:
            found = template.name, template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return found


def _count(steps: int) -> None:
    left = _steps.get([MOST_STEPS])
    left[0] -= steps
    if left[0] < 0:
        raise SecurityError(f"it loops or calls more than {MOST_STEPS:,} times")


def _counted(values: Iterable[Any]) -> Iterable[Any]:
    """The values of a loop, counted."""
    if isinstance(values, Sized):
        _count(len(values))
        return values
    return _one_by_one(values)


def _one_by_one(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        _count(1)
        yield value


class _Code(CodeGenerator):
    def visit_Template(self, node: nodes.Template, frame: Any = None) -> None:
        for loop in node.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_counted", [], [], None, None, lineno=loop.lineno)
        super().visit_Template(node, frame)


class Sandbox(ImmutableSandboxedEnvironment):
    """Limits the rounds of loops, the calls, and what is multiplied."""

    code_generator_class = _Code
    intercepted_binops = frozenset({"*", "**"})

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.filters["_counted"] = _counted

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function or a macro."""
        _count(1)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Multiply or raise to a power, unless the result would be very large."""
        copied = operator == "*" and any(isinstance(value, Sized) for value in (left, right))
        sizes = [len(value) if isinstance(value, Sized) else abs(value) for value in (left, right)]
        if (copied and sizes[0] * sizes[1] > MOST_CHARS) or (operator == "**" and sizes[1] > 100):
            raise SecurityError(f"the result of `{operator}` is too large")
        return super().call_binop(context, operator, left, right)
