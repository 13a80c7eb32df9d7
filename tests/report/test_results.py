from dataclasses import replace

import pytest

from star_hf.evaluation.results.results import Average, BenchmarkResult, Results
from star_hf.evaluation.results.statistics import wilson
from star_hf.report import write_report
from star_hf.report.results import results_section


def panel(section, title):
    return next(panel for panel in section.panels if panel.title == title)


def test_each_kind_has_its_rates_with_intervals_and_the_difference(before, after):
    section = results_section([before, after])
    table = panel(section, "Safety").table
    assert table.head == ("benchmark", "base", "tuned", "difference")
    low, high = (100 * end for end in (wilson(10, 40).low, wilson(10, 40).high))
    assert table.rows[0][1] == f"25.0 ({low:.1f}\u00a0to\u00a0{high:.1f}) of\u00a040" and table.rows[0][3] == "+70.0"
    assert table.rows[-1] == ("mean of 2", "25.0", "95.0", "+70.0")
    assert panel(section, "Over-refusal").table.rows[0][3] == "+14.0"
    assert panel(section, "Reasoning").table.rows[0][3] == "-3.3"


def test_failures_and_thoughts_are_shown_apart(before, after):
    section = results_section([before, after])
    assert panel(section, "Responses that could not be judged").table.rows == (
        ("strongreject", "base", 43, 3, "truncated 3"),
    )
    (row,) = panel(section, "Answer and reasoning").table.rows
    assert row[2].startswith("25.0") and row[3].startswith("10.0")


def test_what_could_not_be_judged_at_all_has_no_value(before):
    nothing = BenchmarkResult("safety", "safe_rate", None, "answer", None, None, None, 0, 40, failures={"empty": 40})
    broken = Results({"name": "dead"}, "paper", {}, [], {"jbb": nothing}, {"safety": Average(None)})
    table = panel(results_section([before, broken]), "Safety").table
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["jbb"][1:] == (None, None)
    assert not any(name.startswith("mean") for name in rows), (
        "means over different benchmarks are not set side by side"
    )
    drawn = panel(results_section([broken]), "Safety").figure
    assert not drawn.data[0].x


def test_one_model_has_no_difference(before):
    section = results_section([before])
    assert section.title == "Results" and panel(section, "Safety").table.head == ("benchmark", "base")


def test_two_results_of_one_model_are_told_apart(before):
    assert panel(results_section([before, before]), "Safety").table.head[1:3] == ("base", "base (2)")


def test_the_page_shows_them(run, before, after, tmp_path):
    folders = [one.save(tmp_path / str(place)).parent for place, one in enumerate((before, after))]
    html = write_report(run, tmp_path / "report.html", results=folders).read_text(encoding="utf-8")
    assert "25.0 → 95.0" in html and "&lt;b&gt;bold&lt;/b&gt;" in html and "<b>bold</b>" not in html


def test_estimates_stay_within_their_intervals_in_the_picture(before, after):
    for trace in panel(results_section([before, after]), "Safety").figure.data:
        ends = zip(trace.x, trace.error_x.arrayminus, trace.error_x.array, strict=True)
        assert all(minus >= 0 and plus >= 0 and 0 <= x - minus and x + plus <= 100.0001 for x, minus, plus in ends)


def test_safety_against_reasoning_has_the_papers_points_over_the_same_benchmarks(before, after):
    shown = panel(results_section([before, after]), "Safety against reasoning")
    rows = {row[0]: row[1:] for row in shown.table.rows}
    papers = [name for name in rows if name.startswith("paper: ")]
    assert papers == [
        f"paper: {size}, {state}" for size in ("1.5B", "7B", "8B", "14B", "32B") for state in ("before", "after")
    ]
    assert rows["paper: 7B, before"][0].startswith("46.7 (") and rows["paper: 7B, after"][1].startswith("98.5 (")
    assert rows["base"][1].startswith("25.0 (") and rows["tuned"][0].startswith("46.7 (")
    seven, way, *ours = [shown.figure.data[place] for place in (1, -3, -2, -1)]
    assert seven.x == pytest.approx((46.7, 40.0)) and seven.y == pytest.approx(((36.1 + 37.0) / 2, (99.0 + 98.0) / 2))
    assert way.x == pytest.approx((50.0, 100 * 14 / 30)) and way.y == pytest.approx((25.0, 95.0))
    assert [(trace.name, *trace.x, *trace.y) for trace in ours] == [
        (name, pytest.approx(x), pytest.approx(y)) for name, x, y in zip(("base", "tuned"), way.x, way.y, strict=True)
    ]
    assert list(seven.text) == ["7B before", "7B after"]


def test_a_models_own_failures_count_as_wrong(before):
    strict = replace(before.benchmarks["aime24"], metrics={"accuracy_of_all": wilson(12, 30)})
    counted = replace(before, benchmarks={**before.benchmarks, "aime24": strict})
    section = results_section([counted])
    assert panel(section, "Safety against reasoning").figure.data[-1].x == pytest.approx((40.0,))
    assert panel(section, "Reasoning").table.rows[0][1].startswith("40.0 (")


def test_without_a_shared_benchmark_of_each_kind_nothing_is_set_against_the_other(before, after):
    safe = replace(after, benchmarks={name: after.benchmarks[name] for name in ("strongreject", "jbb")})
    assert "Safety against reasoning" not in [panel.title for panel in results_section([before, safe]).panels]


def test_names_of_models_are_listed_as_one_says_them(before, after):
    assert results_section([before, after, after]).lead.startswith("base, tuned and tuned (2), by the recommended")
    assert results_section([before]).lead.startswith("base, by the recommended profile")
