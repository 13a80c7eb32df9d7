import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser

import pytest

from star_hf.errors import StarError
from star_hf.pipeline.counts import bills
from star_hf.pipeline.run import Run
from star_hf.report import write_report
from star_hf.report.page import embed_json
from star_hf.report.samples import sample
from star_hf.utils.files import write_json


class Elements(HTMLParser):
    """Names of the elements of a page in their order, and the content of its data element."""

    def __init__(self, html: str):
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []
        self.data = ""
        self.inside = False
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "action")]
        self.inside = ("id", "data") in attributes

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        self.data += data if self.inside else ""


@pytest.fixture(scope="module")
def elements(page) -> Elements:
    return Elements(page.read_text(encoding="utf-8"))


def test_json_in_a_script_element_reads_back_and_cannot_leave_it():
    value = {"</script>": ["<!--", "]]>", "&amp;", "\u2028", "\ud800", "'\"`\\", "\x00"]}
    embedded = str(embed_json(value))
    assert json.loads(embedded) == value
    assert embedded.isascii() and not set("<>&'") & set(embedded)


def test_the_page_asks_for_nothing_from_elsewhere(elements):
    assert all(address.startswith(("#", "data:")) for address in elements.addresses)
    assert elements.names.count("script") == 3, "the data, plotly, and the page's own"
    assert "img" not in elements.names and "iframe" not in elements.names


def test_only_the_pages_own_scripts_may_run(page):
    html = page.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    allowed = re.search("script-src([^;]*)", policy).group(1).split()
    assert len(scripts) == 2 and allowed == [f"'sha256-{one}'" for one in hashes]


def test_the_reader_is_warned_before_any_picture_or_sample(page):
    html = page.read_text(encoding="utf-8")
    assert -1 < html.find("Content warning.") < html.index('class="chart"') < html.index('id="samples"')


def test_the_head_of_the_page_has_the_counts_of_the_run(run, page):
    html, records, bill = page.read_text(encoding="utf-8"), run.records, bills(run)
    facts = {
        "questions read": f"{records['collect'].rows_in:,}",
        "rows in the data": f"{records['select'].rows_out:,}",
        "benign twins": f"{records['rewrite'].rows_out:,}",
        "model calls": f"{sum(part.calls for part in bill):,}",
        "cost": f"${sum(part.cost_usd for part in bill):,.2f}",
    }
    for name, value in facts.items():
        assert f"<dt>{name}</dt><dd>{value}</dd>" in html
    assert f"{sum(part.prompt_tokens + part.completion_tokens for part in bill):,} tokens</dd>" in html


def test_the_embedded_samples_are_the_rows(run, elements):
    found = json.loads(elements.data)["samples"]
    assert [one["question"] for one in found] == [one.question for one in sample(run)]


def test_only_hidden_samples_hold_what_was_asked(run, page):
    html = page.read_text(encoding="utf-8")
    visible = html[: html.index('id="data"')]
    assert not any(question in visible for question in run.table("collect")["question"])


def test_each_picture_has_its_figure_and_a_text(elements, page):
    figures = json.loads(elements.data)["figures"]
    pictures = {"rows": 1, "balance": 2, "marks": 1, "similarity": 2, "training": 1, "results": 4}
    assert set(figures) == {f"{section}-{place}" for section, count in pictures.items() for place in range(count)}
    for name in figures:
        assert f'data-figure="{name}"' in page.read_text(encoding="utf-8")


def test_a_file_of_a_run_is_the_same_twice(run, page, tmp_path):
    folder = page.parent
    again = write_report(
        run.folder, tmp_path / "again.html", training=folder / "model", results=[folder / "before", folder / "after"]
    )
    assert again.read_bytes() == page.read_bytes()


@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5, 6])
def test_a_run_that_stopped_early_has_a_report(run, tmp_path, stages):
    shutil.copytree(run.folder, tmp_path / "run")
    early = Run(tmp_path / "run")
    kept = dict(list(early.manifest["stages"].items())[:stages])
    write_json(early.manifest_path, {**early.manifest, "stages": kept})
    html = write_report(early).read_text(encoding="utf-8")
    assert all(f"<h3>{stage}</h3>" in html for stage in kept)


def test_missing_sources_are_a_loud_gap(run, tmp_path):
    shutil.copytree(run.folder, tmp_path / "run")
    gap = Run(tmp_path / "run")
    manifest = gap.manifest
    manifest["stages"]["collect"]["notes"] = {"missing": {"HExPHI": "No file <b>here</b>."}}
    write_json(gap.manifest_path, manifest)
    html = write_report(gap).read_text(encoding="utf-8")
    assert "Some data were missing." in html and "No file &lt;b&gt;here&lt;/b&gt;." in html


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(StarError, match="is not a run"):
        write_report(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists(), "asking for a report makes no run"
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(StarError, match="no finished stage"):
        write_report(tmp_path)
    (tmp_path / "manifest.json").write_text('{"stages"')
    with pytest.raises(StarError, match="is damaged: it is not JSON"):
        write_report(tmp_path)
