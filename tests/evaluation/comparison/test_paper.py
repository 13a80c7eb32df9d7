import json

import pytest

from star_hf.errors import ConfigError
from star_hf.evaluation.comparison.paper import ABSENT, AGREES, DIFFERS, UNCLEAR, ledger, paper_row, paper_rows
from star_hf.evaluation.results.results import BenchmarkResult, Results
from star_hf.evaluation.results.statistics import Estimate, difference_of, wilson
from star_hf.evaluation.tasks.benchmarks import REASONING, SAFETY


STAR_7B = "UCSC-VLAA/STAR1-R1-Distill-7B"


def results(model=STAR_7B, profile="paper", judge="llama-guard-3", generation=None, failures=None, **rates):
    """Results with these rates, as (successes, items); `strict` of them for what has a right answer."""
    found = {}
    for name, (successes, n) in rates.items():
        kind = "reasoning" if name in REASONING else "over_refusal" if name == "xstest" else "safety"
        rate = wilson(successes, n)
        metrics = {"accuracy_of_all": rate} if kind == "reasoning" else {}
        value = wilson(n, n) if kind == "reasoning" else rate
        found[name] = BenchmarkResult(
            kind,
            "m",
            judge,
            "answer",
            value.value,
            value.low,
            value.high,
            n,
            n,
            failures=failures or {},
            metrics=metrics,
        )
    return Results({"name": model}, profile, generation or {}, [], found, {})


def verdicts(found):
    return {line.name: line.verdict for line in found.lines}


def test_the_tables_are_whole():
    rows = paper_rows()
    tables = {
        table: [row for row in rows.values() if row.table.startswith(table)]
        for table in ("Table 1", "Table 2", "Table 3")
    }
    assert {table: len(found) for table, found in tables.items()} == {"Table 1": 15, "Table 2": 10, "Table 3": 18}
    assert all(set(row.cells) == {*SAFETY, *REASONING} for row in tables["Table 1"] + tables["Table 2"])
    assert all(set(row.cells) == set(SAFETY) for row in tables["Table 3"])
    assert all(row.model for row in tables["Table 1"])


@pytest.mark.parametrize("row", paper_rows().values(), ids=paper_rows())
def test_the_papers_averages_are_the_means_of_its_cells(row):
    for kind, names in (("safety", SAFETY), ("reasoning", REASONING)):
        if kind in row.averages:
            assert row.average(names).value == pytest.approx(
                row.averages[kind], abs=0.001
            )  # printed from unrounded cells


def test_the_headline_is_in_the_tables():
    rows = paper_rows()
    sizes = ("1.5b", "7b", "8b", "14b", "32b")
    gain, cost = (
        sum(rows[f"{size}-star-1"].averages[kind] - rows[f"{size}-r1-distill"].averages[kind] for size in sizes) / 5
        for kind in ("safety", "reasoning")
    )
    assert gain == pytest.approx(0.400, abs=0.0005) and cost == pytest.approx(-0.0108, abs=0.0005)


def test_rows_that_stand_in_two_tables_say_the_same():
    rows = paper_rows()
    for one, other in (
        ("7b-star-1", "table2-7b-star-1-high-1k"),
        ("8b-r1-distill", "table3-r1-llama-8b-base"),
        ("7b-instruct", "table3-qwen-7b-inst-base"),
    ):
        assert {name: rows[one].cells[name] for name in rows[other].cells} == rows[other].cells


@pytest.mark.parametrize("model", [STAR_7B, "models/star1-r1-distill-7b/", "7b-star-1"])
def test_a_row_is_found_by_model_folder_or_name(model):
    assert paper_row(model).name == "7b-star-1"


def test_another_model_needs_a_row():
    with pytest.raises(ConfigError, match="--row[\\s\\S]*7b-star-1"):
        ledger(results(model="mine/other", jbb=(98, 100)))
    assert ledger(results(model="mine/other", jbb=(98, 100)), row="7b-star-1").row.name == "7b-star-1"


def test_agrees_differs_or_too_few_to_tell():
    found = ledger(results(strongreject=(309, 313), jbb=(60, 100), aime24=(12, 30), xstest=(200, 250)))
    assert verdicts(found) == {
        "strongreject": AGREES,
        "jbb": DIFFERS,
        "aime24": UNCLEAR,
        "xstest": ABSENT,
        "mean safety (2)": DIFFERS,
        "mean reasoning (1)": UNCLEAR,
    }


def test_the_margin_says_how_far_rates_that_agree_may_differ():
    close = results(strongreject=(309, 313))
    found = {margin: verdicts(ledger(close, margin=margin)) for margin in (0.1, 0.01)}
    assert found[0.1] == {"strongreject": AGREES, "mean safety (1)": AGREES}
    assert found[0.01] == {"strongreject": UNCLEAR, "mean safety (1)": UNCLEAR}


def test_a_few_items_never_agree_and_no_items_never_differ():
    assert verdicts(ledger(results(jbb=(5, 5))))["jbb"] == UNCLEAR
    assert verdicts(ledger(results(jbb=(0, 0))))["jbb"] == UNCLEAR


def test_accuracy_is_the_one_that_counts_failures_as_wrong():
    (line, *_) = ledger(results(math500=(437, 500))).lines
    assert line.ours.value == 0.874 and line.verdict == AGREES


def test_the_mean_is_over_what_both_have():
    found = ledger(results(strongreject=(310, 313), jbb=(98, 100)))
    mean = found.lines[-1]
    assert mean.paper.value == pytest.approx((0.99 + 0.98) / 2)


def test_notes_say_what_differs_in_the_measurement():
    same = ledger(results(jbb=(98, 100)))
    assert same.notes == ()
    other = ledger(
        results(
            profile="recommended",
            judge="refusal-phrases",
            generation={"attack": "prefill"},
            failures={"truncated": 3},
            wildchat=(300, 400),
            jbb=(19, 20),
        )
    )
    text = " ".join(other.notes)
    for words in ("repetition penalty", "`prefill`", "refusal-phrases", "not public", "20 items of", "3 truncated"):
        assert words in text


def test_json_and_markdown_hold_every_line():
    found = ledger(results(jbb=(60, 100), math500=(437, 500)))
    data = json.loads(json.dumps(found.to_dict()))
    assert [line["verdict"] for line in data["lines"]] == [line.verdict for line in found.lines]
    text = found.to_markdown()
    assert "| jbb | 60.0 (50.2 to 69.1) | 98.0 | -38.0 (" in text and "| differs |" in text
    assert text.count("\n| ") == len(found.lines) + 1


def test_the_interval_of_a_difference_is_newcombes():
    # Newcombe 1998, example (a): 56/70 against 48/80.
    difference = difference_of(wilson(48, 80), wilson(56, 70))
    assert (round(difference.low, 4), round(difference.high, 4)) == (0.0524, 0.3339)
    assert difference_of(wilson(0, 0), wilson(1, 2)).value is None


def test_percent():
    assert Estimate(0.933, 0.9, 0.956, 3).percent() == "93.3 (90.0 to 95.6)"
    assert Estimate(0.1, -0.05, 0.25, 3).percent(sign=True) == "+10.0 (-5.0 to +25.0)"
    assert Estimate(-0.0001, -0.05, 0.05, 3).percent(interval=False, sign=True) == "+0.0"
    assert Estimate(None, None, None, 0).percent() == "-"
