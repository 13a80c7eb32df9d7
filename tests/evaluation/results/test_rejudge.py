import pytest
from datasets import concatenate_datasets

from model_server import ModelServer
from star_hf.errors import ConfigError, SourceError
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.results.rejudge import add_verdicts, read_answers, read_verdicts, rejudge, update_results
from star_hf.evaluation.results.results import load_results, summarise
from star_hf.evaluation.types import ANSWERS


KINDS = {"strongreject": "safety", "xstest": "over_refusal"}


@pytest.fixture
def results(tmp_path, answers):
    """Answers to a safety benchmark, XSTest and a reasoning benchmark."""
    folder = tmp_path / "results"
    folder.mkdir()
    rows = [
        answers("I cannot help with that.", "boom", reasoning="a thought"),
        answers("I cannot help with that.", "Sure: boom", benchmark="xstest"),
        answers("42", benchmark="aime24"),
    ]
    concatenate_datasets(rows).to_parquet(folder / "answers.parquet")
    return folder


def verdict_of(body, before):
    return "unsafe\nS2" if "boom" in body["messages"][-1]["content"] else "safe"


def run(folder, judges, journal):
    return add_verdicts(folder, rejudge(folder, judges, KINDS, journal, progress=False))


def test_each_benchmark_is_judged_by_those_that_serve_its_kind(results, journal):
    with ModelServer(verdict_of) as server:
        judges = [load_judge(f"llama-guard-3@{server.url}"), load_judge("refusal-phrases")]
        verdicts = run(results, judges, journal)
    found = {(row["benchmark"], row["judge"], row["part"]): [] for row in verdicts}
    for row in verdicts:
        found[row["benchmark"], row["judge"], row["part"]].append(row["value"])
    assert found == {
        ("strongreject", "llama-guard-3", "answer"): [1.0, 0.0],
        ("strongreject", "llama-guard-3", "reasoning"): [1.0, 1.0],
        ("strongreject", "refusal-phrases", "answer"): [1.0, 0.0],
        ("xstest", "refusal-phrases", "answer"): [0.0, 1.0],
    }
    assert read_verdicts(results).to_list() == verdicts.to_list()


def test_a_judge_is_added_and_its_own_verdicts_are_replaced(results, journal):
    run(results, [load_judge("refusal-phrases")], journal)
    with ModelServer(verdict_of) as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        run(results, [guard], journal)
        verdicts = run(results, [guard], journal)
        assert len(server.requests) == 4, "two answers and two thoughts, once each"
    assert len(verdicts) == 4 + 4 and len(verdicts.filter(lambda row: row["judge"] == "llama-guard-3")) == 4


def test_a_panel_is_seated_anew_when_a_judge_joins(results, journal):
    with ModelServer(verdict_of) as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        fresh = rejudge(results, [guard, load_judge("refusal-phrases")], KINDS, journal, progress=False)
        verdicts = add_verdicts(results, fresh, with_panel=True)
        panel = verdicts.filter(lambda row: row["judge"] == "panel")
        assert panel["value"][:] == [1.0, 0.0] and set(panel["benchmark"]) == {"strongreject"}
        third = load_judge(f"llama-guard-4@{server.url}")
        panel = run(results, [third], journal).filter(lambda row: row["judge"] == "panel")
    answers = panel.filter(lambda row: row["part"] == "answer")
    assert answers["detail"][:] == ["3 for, 0 against, 0 without a verdict", "0 for, 3 against, 0 without a verdict"]


def test_results_gain_a_judge_and_change_the_leading_one_only_when_told(results, journal):
    phrases = load_judge("refusal-phrases")
    verdicts = run(results, [phrases], journal)
    about = {"model": {"name": "m"}, "profile": "recommended", "generation": {"temperature": 0.6}}
    data = {"strongreject": {"sha256": "abc"}}
    summarise(read_answers(results), verdicts, judges=[phrases.record()], data=data, **about).save(results)
    with ModelServer(lambda body, before: "safe") as server:
        guard = load_judge(f"llama-guard-3@{server.url}")
        add_verdicts(results, rejudge(results, [guard], KINDS, journal, progress=False), with_panel=True)
    after = update_results(results, [guard])
    mine = after.benchmarks["strongreject"]
    assert (mine.judge, mine.value, mine.data) == ("refusal-phrases", 0.5, {"sha256": "abc"})
    assert mine.metrics["safe_rate/llama-guard-3"].value == 1.0
    assert mine.metrics["safe_rate/panel"].value == 1.0 and mine.metrics["safe_rate/panel"].n == 1
    assert [record["name"] for record in after.judges] == ["refusal-phrases", "llama-guard-3", "panel"]
    assert after.generation == {"temperature": 0.6} and load_results(results).benchmarks == after.benchmarks
    led = update_results(results, primary="llama-guard-3")
    assert (led.benchmarks["strongreject"].judge, led.benchmarks["strongreject"].value) == ("llama-guard-3", 1.0)
    assert led.benchmarks["xstest"].judge == "refusal-phrases", "which the guard does not judge"
    with pytest.raises(ConfigError, match="'nobody' has judged nothing"):
        update_results(results, primary="nobody")


def test_what_nobody_serves_is_told(results, journal):
    with pytest.raises(ConfigError, match=r"xstest \(over_refusal\), which none of llama-guard-3 judges"):
        rejudge(results, [load_judge("llama-guard-3")], {"xstest": "over_refusal"}, journal, progress=False)


def test_a_folder_without_answers_is_told(tmp_path, journal):
    with pytest.raises(SourceError, match="answers.parquet"):
        rejudge(tmp_path, [load_judge("refusal-phrases")], KINDS, journal)
    (tmp_path / "answers.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(SourceError, match="cannot be read"):
        read_answers(tmp_path)


def test_answers_of_an_older_form_are_read(tmp_path, answers):
    answers("one").remove_columns("question").to_parquet(tmp_path / "answers.parquet")
    rows = read_answers(tmp_path)
    assert rows.features == ANSWERS and rows["question"][:] == [None]
