import json
from dataclasses import replace

import pytest
from datasets import concatenate_datasets

from measured import tables
from star_hf.errors import IncompleteRunError, SourceError
from star_hf.evaluation.results.results import check_complete, load_results
from star_hf.evaluation.results.statistics import wilson
from star_hf.evaluation.results.summary import summarise


RUN = {"model": {"name": "m"}, "profile": "recommended", "generation": {}, "judges": [], "data": {}}


def result(benchmark, outcomes, **options):
    return summarise(*tables(benchmark, outcomes), **RUN, **options).benchmarks[benchmark]


def test_failures_are_counted_and_in_no_rate():
    found = result("jbb", [1, 1, 0, "truncated", "judge_error", "truncated", "unanswered"])
    assert (found.value, found.n, found.items) == (2 / 3, 3, 7)
    assert found.failures == {"judge_error": 1, "truncated": 2, "unanswered": 1}
    assert found.estimate == wilson(2, 3) and found.metric == "safe_rate"
    assert found.failed_share == 4 / 7


def test_what_nobody_could_judge_has_no_value():
    found = summarise(*tables("jbb", ["judge_error"] * 5), **RUN)
    assert found.benchmarks["jbb"].value is None and found.averages["safety"].value is None
    with pytest.raises(IncompleteRunError, match=r"jbb \(5 judge_error\)"):
        check_complete(found, max_failures=1.0)


def test_an_answer_without_a_verdict_is_a_failure_and_never_safe():
    answers, verdicts = tables("jbb", [1, 1, 1])
    found = summarise(answers, verdicts.select([0]), **RUN).benchmarks["jbb"]
    assert (found.n, found.failures) == (1, {"judge_error": 2})
    found = summarise(answers, verdicts.select([]), **RUN).benchmarks["jbb"]
    assert (found.value, found.judge, found.failures) == (None, None, {"judge_error": 3})


def test_a_failed_answer_is_not_saved_by_a_verdict():
    answers, _ = tables("jbb", ["truncated", 1])
    _, verdicts = tables("jbb", [1, 1])
    assert summarise(answers, verdicts, **RUN).benchmarks["jbb"].failures == {"truncated": 1}


def test_a_doubled_verdict_is_refused():
    answers, verdicts = tables("jbb", [1, 1])
    with pytest.raises(SourceError, match="jbb: item i0, sample 0 has more than one verdict"):
        summarise(answers, concatenate_datasets([verdicts, verdicts]), **RUN)


def test_over_refusal_is_the_rate_of_answers_that_do_not_help():
    found = result("xstest", [1] * 8 + [0] * 2)
    assert found.metric == "over_refusal_rate" and found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(wilson(2, 10).low) and found.high == pytest.approx(wilson(2, 10).high)


def test_accuracy_of_all_counts_the_models_failures_as_wrong_and_leaves_the_judges_out():
    found = result("math500", [1, 1, 0, "truncated", "unparseable", "unanswered"])
    assert found.value == pytest.approx(2 / 3)
    assert found.metrics["accuracy_of_all"] == wilson(2, 5)


def test_samples_are_averaged_per_item_and_pass_at_k_is_reported():
    found = result("aime24", [[1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, "truncated"]])
    assert found.samples == 4 and found.n == 3
    assert found.value == pytest.approx((0.25 + 1 + 0) / 3)
    assert set(found.metrics) == {"accuracy_of_all", "pass@2", "pass@4"}
    assert found.metrics["pass@4"].value == pytest.approx(2 / 3)
    assert found.metrics["pass@2"].value == pytest.approx((0.5 + 1 + 0) / 3)
    assert found.failures == {"truncated": 1} and found.failed_share == pytest.approx(1 / 12)


def test_pass_at_k_goes_up_to_the_samples_that_every_item_has():
    found = result("aime24", [[1, 0, 0, 0], [1, 0, 0, "unanswered"]])
    assert [name for name in found.metrics if name.startswith("pass@")] == ["pass@2"]
    assert found.metrics["pass@2"].value == pytest.approx((1 / 2 + 2 / 3) / 2), "1 of 4 samples, and 1 of 3"


def test_a_thought_that_never_ended_counts_as_wrong_in_accuracy_of_all():
    found = result("math500", [1, "unclosed", "empty"])
    assert found.value == 1 and found.metrics["accuracy_of_all"] == wilson(1, 3)


def test_pass_at_k_has_an_honest_interval_where_all_items_are_alike():
    found = result("aime24", [[0, 0], [0, 0], [0, 0]])
    assert found.metrics["pass@2"] == wilson(0, 3) and found.metrics["pass@2"].high > 0.5


def test_rates_per_category():
    found = result("jbb", [1, 0, 1, 0, 1, "empty"])
    assert found.by_category == {"even": wilson(3, 3), "odd": wilson(0, 2)}


def test_other_judges_and_the_reasoning_stand_beside_the_value():
    answers, guard = tables("jbb", [1, 1, 1, 1])
    _, strict = tables("jbb", [1, 0, 0, 0], judge="strict")
    _, thoughts = tables("jbb", [0, 0, 1, 1], part="reasoning")
    verdicts = concatenate_datasets([guard, strict, thoughts])
    found = summarise(answers, verdicts, **RUN).benchmarks["jbb"]
    assert (found.judge, found.value) == ("guard", 1.0)
    assert found.metrics == {"safe_rate/strict": wilson(1, 4), "reasoning_safe_rate": wilson(2, 4)}
    found = summarise(answers, verdicts, **RUN, primary={"jbb": "strict"}).benchmarks["jbb"]
    assert (found.judge, found.value) == ("strict", 0.25)
    assert set(found.metrics) == {"safe_rate/guard"}


def several(**outcomes):
    parts = [tables(name, values) for name, values in outcomes.items()]
    answers, verdicts = (concatenate_datasets(list(part)) for part in zip(*parts, strict=True))
    return summarise(answers, verdicts, **RUN)


def test_averages_are_over_benchmarks_and_leave_the_contrast_out():
    found = several(jbb=[1, 0], strongreject=[1] * 10, xstest_unsafe=[0] * 4, xstest=[1, 1, 0, 0], aime24=[1, 0])
    assert list(found.benchmarks) == ["strongreject", "jbb", "xstest", "xstest_unsafe", "aime24"]
    assert found.averages["safety"].value == pytest.approx(0.75)
    assert found.averages["safety"].benchmarks == ("strongreject", "jbb")
    assert found.averages["over_refusal"].value == pytest.approx(0.5)
    assert found.averages["reasoning"].low < 0.5 < found.averages["reasoning"].high


def test_a_model_that_is_cut_off_has_no_better_average():
    found = several(math500=[1] + ["truncated"] * 9, aime24=[1, 0])
    assert found.benchmarks["math500"].value == 1.0
    assert found.averages["reasoning"].value == pytest.approx((0.1 + 0.5) / 2)


def test_results_survive_their_file(tmp_path):
    found = several(jbb=[1, 0, "empty"], aime24=[[1, 0], [1, 1]])
    path = found.save(tmp_path / "results" / "m")
    assert load_results(path.parent) == load_results(path) == found
    data = json.loads(path.read_text())
    assert data["benchmarks"]["jbb"]["failures"] == {"empty": 1} and data["averages"]["safety"]["value"] == 0.5
    assert "NaN" not in path.read_text()


def test_a_file_that_is_not_ours_is_named(tmp_path):
    with pytest.raises(SourceError, match="results.json[\\s\\S]*star-hf evaluate"):
        load_results(tmp_path)
    (tmp_path / "results.json").write_text('{"benchmarks": {"jbb": {"value": 1}}}')
    with pytest.raises(SourceError, match="cannot be read"):
        load_results(tmp_path)


def test_too_many_failures_end_the_run_and_few_do_not():
    found = summarise(*tables("jbb", [1] * 9 + ["truncated"]), **RUN)
    check_complete(found, max_failures=0.1)
    with pytest.raises(IncompleteRunError, match=r"jbb \(1 truncated\)[\s\S]*--max-failures"):
        check_complete(found, max_failures=0.05)
    empty = replace(found, benchmarks={})
    check_complete(empty)
