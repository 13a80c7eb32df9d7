import pytest
from datasets import concatenate_datasets

from model_server import ModelServer
from star_hf.errors import ConfigError, IncompleteRunError, SourceError, StarError
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.rejudge import rejudge
from star_hf.evaluation.results.folder import ResultsFolder
from star_hf.evaluation.results.results import load_results
from star_hf.evaluation.results.summary import summarise
from star_hf.evaluation.types import RESPONSES, VERDICTS
from star_hf.schema import as_dataset


RUN = {
    "model": {"name": "m"},
    "profile": "recommended",
    "generation": {"temperature": 0.6},
    "judges": [],
    "data": {"strongreject": {"sha256": "abc"}},
}


@pytest.fixture
def results(tmp_path, answers):
    """Answers to a safety benchmark, XSTest and a reasoning benchmark, not judged yet."""
    folder = tmp_path / "results"
    folder.mkdir()
    rows = [
        answers("I cannot help with that.", "boom", reasoning="a thought"),
        answers("I cannot help with that.", "Sure: boom", benchmark="xstest"),
        answers("42", benchmark="aime24"),
    ]
    rows = concatenate_datasets(rows)
    rows.to_parquet(folder / "responses.parquet")
    summarise(rows, as_dataset([], VERDICTS), **RUN).save(folder)
    return folder


def verdict_of(body, before):
    return "unsafe\nS2" if "boom" in body["messages"][-1]["content"] else "safe"


def run(folder, *judges, **options):
    rejudge(folder, judges, progress=False, **options)
    return ResultsFolder(folder).verdicts


def of(verdicts, judge):
    return verdicts.filter(lambda row: row["judge"] == judge)


def test_each_benchmark_is_judged_by_those_that_serve_its_kind(results):
    with ModelServer(verdict_of) as server:
        verdicts = run(results, load_judge(f"llama-guard-3@{server.url}"), load_judge("refusal-phrases"))
    found = {(row["benchmark"], row["judge"], row["part"]): [] for row in verdicts}
    for row in verdicts:
        found[row["benchmark"], row["judge"], row["part"]].append(row["value"])
    assert found == {
        ("strongreject", "llama-guard-3", "answer"): [1.0, 0.0],
        ("strongreject", "llama-guard-3", "reasoning"): [1.0, 1.0],
        ("strongreject", "refusal-phrases", "answer"): [1.0, 0.0],
        ("xstest", "refusal-phrases", "answer"): [0.0, 1.0],
    }


def test_a_judge_is_added_and_its_own_verdicts_are_replaced(results):
    run(results, load_judge("refusal-phrases"))
    with ModelServer(verdict_of) as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        run(results, guard)
        verdicts = run(results, guard)
        assert len(server.requests) == 4, "two answers and two thoughts, once each"
    assert len(verdicts) == 4 + 4 and len(of(verdicts, "llama-guard-3")) == 4


def test_a_panel_is_made_anew_when_a_judge_joins(results):
    with ModelServer(verdict_of) as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        panel = of(run(results, guard, load_judge("refusal-phrases"), with_panel=True), "panel")
        assert panel["value"][:] == [1.0, 0.0] and set(panel["benchmark"]) == {"strongreject"}
        panel = of(run(results, load_judge(f"llama-guard-4@{server.url}")), "panel")
    answers = panel.filter(lambda row: row["part"] == "answer")
    assert answers["detail"][:] == ["3 for, 0 against, 0 without a verdict", "0 for, 3 against, 0 without a verdict"]


def test_results_gain_a_judge_and_change_the_leading_one_only_when_told(results):
    run(results, load_judge("refusal-phrases"))
    with ModelServer(lambda body, before: "safe") as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        run(results, guard, with_panel=True)
        after = load_results(results)
        mine = after.benchmarks["strongreject"]
        assert (mine.judge, mine.value, mine.data) == ("refusal-phrases", 0.5, {"sha256": "abc"})
        assert mine.metrics["safe_rate/llama-guard-3"].value == 1.0
        assert mine.metrics["safe_rate/panel"].value == 1.0 and mine.metrics["safe_rate/panel"].n == 1
        assert [record["name"] for record in after.judges] == ["refusal-phrases", "llama-guard-3", "panel"]
        assert after.generation == {"temperature": 0.6}
        run(results, guard, primary="llama-guard-3")
        led = load_results(results)
        assert (led.benchmarks["strongreject"].judge, led.benchmarks["strongreject"].value) == ("llama-guard-3", 1.0)
        assert led.benchmarks["xstest"].judge == "refusal-phrases", "which the guard does not judge"


def test_of_two_at_the_same_time_one_is_refused_and_nothing_is_lost(results):
    phrases, refused = load_judge("refusal-phrases"), []

    def meanwhile(body, before):
        if not refused:
            with pytest.raises(StarError, match="Another process works in") as error:
                run(results, phrases)
            refused.append(error)
        return verdict_of(body, before)

    with ModelServer(meanwhile) as server:
        run(results, load_judge(f"llama-guard-3@{server.url}"))
    assert refused and set(ResultsFolder(results).verdicts["judge"]) == {"llama-guard-3"}
    assert set(run(results, phrases)["judge"]) == {"llama-guard-3", "refusal-phrases"}


def test_a_budget_holds_beyond_what_the_folder_has_cost_and_a_higher_one_goes_on(results, tmp_path):
    """A verdict may cost a dollar, and costs ten cents."""
    with ModelServer(verdict_of) as server:
        price = "{input: 0, output: 10000}"
        (tmp_path / "guard.yaml").write_text(
            "name: guard\nfamily: llama-guard\n"
            f"endpoint: {{base_url: '{server.url}', max_tokens: 100, concurrency: 1, price: {price}}}\n"
        )
        guard = load_judge(tmp_path / "guard.yaml")
        for paid in (1, 2):
            with pytest.raises(IncompleteRunError, match="the budget of .* allows no further request"):
                run(results, guard, budget_usd=1.05)
            assert len(server.requests) == paid
        run(results, guard, budget_usd=5)
        assert len(server.requests) == 4


def test_an_unknown_primary_judge_is_found_before_anything_is_asked(results):
    with ModelServer(verdict_of) as server:
        with pytest.raises(ConfigError, match="'nobody' has judged nothing"):
            run(results, load_judge(f"llama-guard-3@{server.url}"), primary="nobody")
        assert not server.requests and not (results / "verdicts.parquet").exists()


def test_what_nobody_serves_is_told(results, answers):
    only = answers("I cannot help with that.", benchmark="xstest")
    only.to_parquet(results / "responses.parquet")
    summarise(only, as_dataset([], VERDICTS), **RUN).save(results)
    with pytest.raises(ConfigError, match=r"xstest \(over_refusal\), which none of llama-guard-3 judges"):
        run(results, load_judge("llama-guard-3"))


def test_a_folder_that_is_not_one_is_told_and_not_created(tmp_path):
    with pytest.raises(SourceError, match="results.json"):
        run(tmp_path / "nowhere", load_judge("refusal-phrases"))
    assert not (tmp_path / "nowhere").exists()


def test_damaged_answers_are_told(results):
    (results / "responses.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(SourceError, match="responses.parquet cannot be read"):
        run(results, load_judge("refusal-phrases"))


def test_answers_of_an_older_form_are_read(tmp_path, answers):
    answers("one").remove_columns("question").to_parquet(tmp_path / "responses.parquet")
    rows = ResultsFolder(tmp_path).responses
    assert rows.features == RESPONSES and rows["question"][:] == [None]
