"""The HTML file: one page that needs no network. Texts of people and models are data in it, never markup or code."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from .. import __version__
from ..errors import StarError
from ..evaluation.results.results import AVERAGES, Results, load_results
from ..pipeline.counts import bills
from ..pipeline.run import Run
from ..utils.files import write_text
from ..utils.formatting import percent, readable
from .build import build_sections
from .results import comparable, results_section
from .samples import sample
from .sections import Section
from .style import PALETTE, spaced
from .training import training_section


__all__ = ["Fact", "embed_json", "render_page", "write_report"]

FOLDER = Path(__file__).parent
UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&'\u2028\u2029"}


@dataclass(frozen=True)
class Fact:
    """A number at the head of the report: its name, its value, and a note below it."""

    name: str
    value: str
    note: str = ""


def embed_json(value: Any) -> Markup:
    """JSON for a `<script>` element: nothing in it can close the element or open a comment."""
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

    It opens from disk and loads nothing over the network, which a content security policy in the file enforces. Texts
    of rows are hidden until the reader asks for them.

    Args:
        run ([`~star_hf.pipeline.run.Run`], `str` or `Path`): The run or its directory; it may have stopped after any
            stage.
        output (`str` or `Path`, *optional*): The file; `<run>/report.html` by default.
        training (`str` or `Path`, *optional*): The output directory of a training on the data.
        results (`Sequence[str | Path]`): Results folders of the models to compare, the base model's first.
        samples (`int`, defaults to 600): Rows to browse; see [`~star_hf.report.samples.sample`].
        seed (`int`, defaults to 0): Seed of their choice.

    Returns:
        `Path`: The file.

    Raises:
        [`StarError`]: If there is no run, or it has no finished stage.
        [`TrainingError`]: If `training` has no record.
        [`SourceError`]: If a folder of `results` has no results.
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
    write_text(output, _render(run, sections, facts, samples, seed))
    return output


def _open(run: Run | str | Path) -> Run:
    folder = run.folder if isinstance(run, Run) else Path(run)
    if not (folder / "manifest.json").is_file():
        raise StarError(
            f"{folder} is not a run: it has no manifest.json.",
            "Name the directory that `star-hf build --run-dir` was given.",
        )
    run = Run(folder)
    if not run.records:
        raise StarError(f"{folder} has no finished stage yet.", "Run `star-hf build` until one is done.")
    return run


def _render(run: Run, sections: Sequence[Section], facts: Sequence[Fact], samples: int, seed: int) -> str:
    chosen = [asdict(one) for one in sample(run, samples, seed)]
    config, last = run.manifest.get("config", {}), list(run.records)[-1]
    state = "A finished build" if last in ("select", "rewrite") else f"A build that stopped after {last}"
    return render_page(
        "page.html.j2",
        sections,
        chosen,
        name=run.folder.resolve().name,
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        folder=run.folder,
        summary=f"{state}, by the {run.config.profile} profile.",
        facts=facts,
        versions=run.manifest.get("versions", {}),
        records=run.records,
        missing=run.records["collect"].notes.get("missing", {}) if "collect" in run.records else {},
        unread=run.records["deduplicate"].notes.get("unread", {}) if "deduplicate" in run.records else {},
        samples=len(chosen),
        seed=seed,
    )


def render_page(
    template: str, sections: Sequence[Section], chosen: Sequence[Any] = (), *folders: Path, **values: Any
) -> str:
    """A page of sections in the report's style, with their pictures. The template extends `base.html.j2`; it is in
    this folder or one of `folders`, and gets `values`."""
    scripts = [get_plotlyjs(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    environment = Environment(
        loader=FileSystemLoader([FOLDER, *folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"readable": readable, "spaced": spaced}
    figures = {
        f"{section.key}-{position}": json.loads(panel.figure.to_json(engine="json"))
        for section in sections
        for position, panel in enumerate(section.panels)
        if panel.figure is not None
    }
    return environment.get_template(template).render(
        version=__version__,
        sections=sections,
        data=embed_json({"palette": list(PALETTE.values()), "figures": figures, "samples": chosen}),
        style=Markup((FOLDER / "page.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        hashes=[_csp_hash(script) for script in scripts],
        **values,
    )


def _facts(run: Run) -> list[Fact]:
    """The most important numbers of a build."""
    records, bill = run.records, bills(run)
    first, last = next(iter(records)), [stage for stage in records if stage != "rewrite"][-1]
    facts = [Fact("questions read", f"{records[first].rows_in:,}")]
    if last != first:
        name = "rows in the data" if last == "select" else f"rows after {last}"
        facts.append(Fact(name, f"{records[last].rows_out:,}"))
    if "rewrite" in records:
        facts.append(Fact("benign twins", f"{records['rewrite'].rows_out:,}"))
    if bill:
        costs = [part.cost_usd for part in bill if part.cost_usd is not None]
        tokens = sum(part.prompt_tokens + part.completion_tokens for part in bill)
        facts.append(Fact("model calls", f"{sum(part.calls for part in bill):,}", f"{tokens:,} tokens"))
        if costs:
            facts.append(Fact("cost", f"${sum(costs):,.2f}"))
    return facts


def _gains(results: Sequence[Results]) -> list[Fact]:
    """The averages of the first and the last model, in percent."""
    facts = []
    for kind in AVERAGES:
        values = [one.averages[kind].value for one in results] if comparable(results, kind) else [None]
        if None not in values:
            shown = " → ".join(percent(value) for value in dict.fromkeys((values[0], values[-1])))
            facts.append(Fact(kind.replace("_", "-"), shown, "percent"))
    return facts


def _csp_hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
