"""An audit for people: an HTML page that hides harmful texts until asked, and Markdown without any text."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from .types import SEVERITIES, Audit


__all__ = ["to_html", "to_markdown"]

SHOWN = 500
"""Hits of one finding that the page lists; the JSON holds all."""


def to_html(audit: Audit) -> str:
    """The audit as one HTML file: no script, nothing from the network, every value escaped.

    Texts of the data set are in it, folded; those of gated benchmarks are not.
    """
    return _template("audit.html.j2").render(**_values(audit), texts=audit.texts, shown=SHOWN)


def to_markdown(audit: Audit, command: str | None = None) -> str:
    """The audit in Markdown: ids and counts, no text of the data set; and the command that it came from, if given."""
    return _template("audit.md.j2").render(**_values(audit), command=command)


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


@lru_cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("star_hf.audit", "."),
        autoescape=name.endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda value: str(value).replace("|", "\\|").replace("\n", " ")
    return environment.get_template(name)
