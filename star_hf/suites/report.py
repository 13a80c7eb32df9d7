"""A suite's results as JSON, Markdown, HTML and JUnit XML. Only the HTML page has texts, folded and escaped."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..evaluation.comparison.compare import WORDS
from ..evaluation.comparison.decision import Criterion
from ..policies.taxonomy import KINDS
from ..utils.files import write_json, write_text
from ..utils.formatting import in_markdown, printable
from .results import SuiteResults


__all__ = ["columns_of", "to_html", "to_junit", "to_markdown", "write_reports"]

FOLDER = Path(__file__).parent
SHOWN = 50
"""The failed answers that the page shows."""


def write_reports(
    results: SuiteResults,
    checks: Sequence[Criterion] = (),
    *,
    json: str | Path | None = None,
    markdown: str | Path | None = None,
    html: str | Path | None = None,
    junit: str | Path | None = None,
) -> list[Path]:
    """Write the reports that have a path, and return the paths."""
    if json is not None:
        write_json(json, {**results.to_dict(), "checks": [asdict(check) for check in checks]})
    for path, make in ((markdown, to_markdown), (html, to_html), (junit, to_junit)):
        if path is not None:
            write_text(path, make(results, checks))
    return [Path(path) for path in (json, markdown, html, junit) if path is not None]


def to_markdown(results: SuiteResults, checks: Sequence[Criterion] = ()) -> str:
    """Tables of rates and kinds, for a pull request's comment: ids and references, but no text of cases."""
    return _render("report.md.j2", results, checks, autoescape=False)


def to_html(results: SuiteResults, checks: Sequence[Criterion] = ()) -> str:
    """One page that loads nothing. The texts of failed cases are harmful: they are escaped and folded."""
    return _render("report.html.j2", results, checks, autoescape=True)


def to_junit(results: SuiteResults, checks: Sequence[Criterion] = ()) -> str:
    """JUnit XML as CI systems show it: a suite for each rule, a test for each answer. An answer that was not judged is
    an error, a criterion that fails is a failed test of its own. It has no text of cases."""
    root = ET.Element("testsuites", name=_plain(results.name))
    for ref in results.per_rule:
        mine = [each for each in results.cases if each.case.rule == ref]
        element = _suite(
            root, ref, len(mine), sum(e.passed is False for e in mine), sum(e.passed is None for e in mine)
        )
        for each in mine:
            name = f"{each.case.id} {each.case.style} sample {each.sample}"
            test = ET.SubElement(element, "testcase", classname=_plain(ref), name=name)
            if each.passed is not True:
                tag = "failure" if each.passed is False else "error"
                ET.SubElement(test, tag, message=_plain(each.what)).text = _plain(results.rules.get(ref, ""))
    if checks:
        failed, open_ = (sum(check.passed is outcome for check in checks) for outcome in (False, None))
        element = _suite(root, "limits", len(checks), failed, open_)
        for check in checks:
            test = ET.SubElement(element, "testcase", classname="limits", name=_plain(check.name))
            if check.passed is not True:
                ET.SubElement(test, "error" if check.passed is None else "failure", message=_plain(check.detail))
    totals = {name: sum(int(part.get(name, 0)) for part in root) for name in ("tests", "failures", "errors")}
    root.attrib.update({name: str(total) for name, total in totals.items()})
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def columns_of(results: SuiteResults) -> list[str]:
    """The observed kinds, from refusal to help, then what else was observed."""
    seen = {kind for found in results.matrix.values() for kind in found}
    return [*(kind for kind in KINDS if kind in seen), *sorted(seen - set(KINDS))]


def _suite(root: ET.Element, name: str, tests: int, failures: int, errors: int) -> ET.Element:
    counts = {"tests": tests, "failures": failures, "errors": errors}
    return ET.SubElement(root, "testsuite", name=_plain(name), **{key: str(count) for key, count in counts.items()})


def _plain(text: str) -> str:
    """Text without characters that XML cannot hold."""
    return re.sub("[\ufffe\uffff]", "\ufffd", printable(text)).encode("utf-8", "replace").decode()


def _render(name: str, results: SuiteResults, checks: Sequence[Criterion], autoescape: bool) -> str:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = in_markdown
    return environment.get_template(name).render(
        results=results,
        checks=checks,
        words=WORDS,
        kinds=[kind for kind in KINDS if kind in results.matrix],
        columns=columns_of(results),
        worst=results.worst[:SHOWN],
        failed=len(results.worst),
    )
