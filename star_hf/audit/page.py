"""An audit as an HTML page, which folds harmful texts, and as Markdown without texts."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from ..utils.formatting import as_code, in_markdown, printable
from .types import SEVERITIES, Audit


__all__ = ["to_html", "to_markdown"]

SHOWN = 500
"""Hits of one finding on the page; the JSON contains all."""


def to_html(audit: Audit) -> str:
    """The audit as one HTML file without scripts or network access, with every value escaped.

    It contains texts of the data set, folded, but none of gated benchmarks.
    """
    return _template("audit.html.j2").render(**_values(audit), texts=audit.texts, shown=SHOWN)


def to_markdown(audit: Audit, command: str | None = None) -> str:
    """The audit in Markdown: ids and counts, no texts, and the command that made it, if given."""
    shown = None if command is None else _Markdown(printable(command).replace("`" * 3, "'" * 3))
    return _template("audit.md.j2").render(**_values(audit), command=shown)


def _values(audit: Audit) -> dict[str, Any]:
    categories = audit.statistics["categories"]
    touched: dict[str, dict[str, set[int]]] = {name: {} for name in audit.benchmarks}
    for finding in audit.findings:
        for hit in finding.hits:
            if hit.benchmark is not None:
                touched[hit.benchmark].setdefault(finding.severity, set()).add(hit.row)
    return {
        "audit": audit,
        "severities": SEVERITIES,
        "touched": {name: {key: len(rows) for key, rows in found.items()} for name, found in touched.items()},
        "totals": {label: sum(cells.values()) for label, cells in categories.items()},
        "verdict": "errors" if not audit.ok else "no errors",
    }


class _Markdown(str):
    """Text that is Markdown already. All other values are escaped."""


def _escaped(value: Any) -> str:
    """What the template prints: every value as Markdown text, but not its own commas."""
    return value if isinstance(value, _Markdown) or value == ", " else in_markdown(value)


@lru_cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("star_hf.audit", "."),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    if name.endswith(".md.j2"):
        environment.finalize = _escaped
        environment.filters["code"] = lambda value: _Markdown(as_code(value))
    return environment.get_template(name)
