"""The HTML file: one page that needs no network, in which what people and models wrote is data and nothing else."""

import base64
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .. import __version__
from ..errors import StarError
from ..evaluation.results.results import AVERAGES, Results, load_results
from ..pipeline.counts import bills
from ..pipeline.run import Run
from .look import PALETTE
from .results import comparable, results_section
from .samples import sample
from .sections import Section, build_sections
from .training import training_section


__all__ = ["Fact", "embed_json", "write_report"]

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&'\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """A number at the head of the report: what it is, the number, and a note below it."""

    name: str
    value: str
    note: str = ""


def embed_json(value: Any) -> Markup:
    """JSON that may stand inside a `<script>` element: nothing in it can close the element or open a comment."""
    return Markup(json.dumps(value, ensure_ascii=True, separators=(",", ":")).translate(UNSAFE))


def write_report(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    training: str | Path | None = None,
    results: Sequence[str | Path] = (),
    samples: int = 600,
    seed: int = 0,
) -> Path:
    """Write a run's report as one HTML file.

    It opens from disk and asks for nothing over the network, which a content security policy in the file enforces.
    Texts of rows are hidden until they are asked for.

    Args:
        run ([`~star_hf.pipeline.run.Run`], `str` or `Path`): The run or its directory; it may have stopped after any
            stage.
        output (`str` or `Path`, *optional*): The file; `<run>/report.html` by default.
        training (`str` or `Path`, *optional*): The output directory of a training run on the data.
        results (`Sequence[str | Path]`): Results folders of the models to compare, the base first.
        samples (`int`, defaults to 600): Rows to browse; see [`~star_hf.report.samples.sample`].
        seed (`int`, defaults to 0): Chooses other rows to browse.

    Returns:
        `Path`: The file.

    Raises:
        StarError: If there is no run, it has no finished stage, or plotly is not installed.
        TrainingError: If there is no record of a training where one was named.
        SourceError: If there are no results where they were named.
    """
    run = _open(run)
    output = Path(output) if output is not None else run.folder / "report.html"
    sections, facts = build_sections(run), _facts(run)
    if training is not None:
        sections.append(training_section(training))
    if results:
        found = [load_results(folder) for folder in results]
        sections.append(results_section(found))
        facts += _gains(found)
    html = _render(run, sections, facts, samples, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(html, encoding="utf-8")
    return output


def _open(run: Run | str | Path) -> Run:
    folder = run.folder if isinstance(run, Run) else Path(run)
    if not (folder / "manifest.json").is_file():
        raise StarError(
            f"{folder} is not a run: there is no manifest.json.",
            "Name the directory that `star-hf build --run-dir` was given.",
        )
    run = Run(folder)
    if not run.records:
        raise StarError(f"{folder} has no finished stage yet.", "Run `star-hf build` until one is done.")
    return run


def _render(run: Run, sections: Sequence[Section], facts: Sequence[Fact], samples: int, seed: int) -> str:
    scripts = [_plotly(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "words": lambda name: name.replace("_", " ")}
    figures = {
        f"{section.key}-{position}": json.loads(panel.figure.to_json(engine="json"))
        for section in sections
        for position, panel in enumerate(section.panels)
        if panel.figure is not None
    }
    chosen = [asdict(one) for one in sample(run, samples, seed)]
    manifest = run.manifest
    return environment.get_template("page.html.j2").render(
        name=run.folder.resolve().name,
        version=__version__,
        config=yaml.safe_dump(manifest.get("config", {}), sort_keys=False, allow_unicode=True),
        folder=run.folder,
        summary=_summary(run),
        facts=facts,
        versions=manifest.get("versions", {}),
        records=run.records,
        missing=run.records["collect"].notes.get("missing", {}) if "collect" in run.records else {},
        sections=sections,
        samples=len(chosen),
        seed=seed,
        data=embed_json({"palette": list(PALETTE.values()), "figures": figures, "samples": chosen}),
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        hashes=[_csp_hash(script) for script in scripts],
    )


def _summary(run: Run) -> str:
    config = run.manifest.get("config", {})
    done = list(run.records)
    state = "A whole build" if done[-1] in ("select", "rewrite") else f"A build that stands after {done[-1]}"
    return f"{state} by the {config.get('profile', 'recommended')} profile."


def _facts(run: Run) -> list[Fact]:
    """The few numbers that one wants first."""
    records, bill = run.records, bills(run)
    first, last = next(iter(records)), [stage for stage in records if stage != "rewrite"][-1]
    facts = [Fact("questions read", f"{records[first].rows_in:,}")]
    if last != first:
        facts.append(
            Fact("rows in the data" if last == "select" else f"rows after {last}", f"{records[last].rows_out:,}")
        )
    if "rewrite" in records:
        facts.append(Fact("benign twins", f"{records['rewrite'].rows_out:,}"))
    if bill:
        costs = [part.cost_usd for part in bill if part.cost_usd is not None]
        tokens = sum(part.prompt_tokens + part.completion_tokens for part in bill)
        facts.append(Fact("calls of models", f"{sum(part.calls for part in bill):,}", f"{tokens:,} tokens"))
        if costs:
            facts.append(Fact("cost", f"${sum(costs):,.2f}"))
    return facts


def _gains(results: Sequence[Results]) -> list[Fact]:
    """The averages of the first and the last model, in percent."""
    facts = []
    for kind in AVERAGES:
        values = [one.averages[kind].value for one in results] if comparable(results, kind) else [None]
        if None not in values:
            shown = " → ".join(f"{100 * value:.1f}" for value in dict.fromkeys((values[0], values[-1])))
            facts.append(Fact(kind.replace("_", "-"), shown, "percent"))
    return facts


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise StarError("The report needs plotly.", "Install it: pip install 'star_hf[report]'") from error
    return get_plotlyjs()


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()


def _cell(value: Any, digits: int | None = None) -> str:
    """A cell of a table as text."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if digits is not None:
            return f"{value:,.{digits}f}"
        return f"{value:,.4g}" if abs(value) < 1 else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
