import os
import shutil
from dataclasses import replace

import pytest
from datasets import Dataset, concatenate_datasets

from measured import tables
from star_hf.errors import ConfigError, SourceError, StarError
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.results.folder import ResultsFolder
from star_hf.evaluation.tasks.profiles import Evaluation
from star_hf.llm.endpoint import Endpoint


def judge(name, model=None):
    """A judge of this name; with a model, one that would be asked over a network."""
    endpoint = Endpoint(model=model, provider="vllm", base_url="http://localhost:1") if model else None
    return replace(load_judge("refusal-phrases"), name=name, endpoint=endpoint)


def evaluate(
    folder,
    outcomes,
    prompt="ask {}",
    attack=None,
    system_prompt=None,
    fingerprint="a",
    profile="recommended",
    models=None,
    **sampling,
):
    """Put an evaluation into a folder, given as the outcomes of each judge on each benchmark."""
    place, models = ResultsFolder(folder), models or {}
    made = {
        name: [tables(name, values, who, prompt=prompt) for who, values in each.items()]
        for name, each in outcomes.items()
    }
    judges = [judge(who, models.get(who)) for who in dict.fromkeys(who for each in outcomes.values() for who in each)]
    evaluation = Evaluation(profile=profile, generation=sampling)
    settings = {"attack": attack, "system_prompt": system_prompt}
    with place.working():
        kept = place.still_true(fingerprint, evaluation, settings, list(outcomes), judges)
        earlier = kept.generation["benchmarks"] if kept else {}
        return place.add_answers(
            kept,
            concatenate_datasets([parts[0][0] for parts in made.values()]),
            concatenate_datasets([verdicts for parts in made.values() for _, verdicts in parts]),
            judges=judges,
            data={name: {"sha256": prompt} for name in outcomes},
            model={"name": "m", "fingerprint": fingerprint},
            profile=profile,
            generation={**settings, "benchmarks": {**earlier, **dict.fromkeys(outcomes, sampling)}},
        )


def judged(folder, benchmark, who, outcomes, **options):
    """Put a judge's verdicts on existing answers into a folder."""
    place = ResultsFolder(folder)
    with place.working():
        return place.add_verdicts(tables(benchmark, outcomes, who)[1], [judge(who)], **options)


def said(folder):
    """Which judges have verdicts on which benchmark."""
    verdicts = ResultsFolder(folder).verdicts
    pairs = dict.fromkeys(zip(verdicts["benchmark"], verdicts["judge"], strict=True))
    return {name: {who for benchmark, who in pairs if benchmark == name} for name, _ in pairs}


def names(results):
    return [record["name"] for record in results.judges]


def test_verdicts_stay_with_the_same_answers(tmp_path):
    evaluate(tmp_path, {"jbb": {"guard": [1, 0]}})
    results = evaluate(tmp_path, {"jbb": {"strict": [0, 0]}})
    assert said(tmp_path) == {"jbb": {"guard", "strict"}} and names(results) == ["guard", "strict"]
    assert results.benchmarks["jbb"].judge == "strict"
    assert results.benchmarks["jbb"].metrics["safe_rate/guard"].value == 0.5


@pytest.mark.parametrize("change", [{"prompt": "pretend, {}"}, {"outcomes": ["empty", "empty"]}])
def test_verdicts_do_not_outlive_answers_that_changed(tmp_path, change):
    evaluate(tmp_path, {"jbb": {"guard": [1, 0]}, "math500": {"math-verify": [1]}})
    judged(tmp_path, "jbb", "other", [1, 1], with_panel=True)
    changed = {"outcomes": [0, 0], **change}
    results = evaluate(tmp_path, {"jbb": {"strict": changed.pop("outcomes")}}, **changed)
    assert said(tmp_path) == {"jbb": {"strict"}, "math500": {"math-verify"}}
    assert "safe_rate/guard" not in results.benchmarks["jbb"].metrics
    assert names(results) == ["math-verify", "strict"], "guard, other and their panel judge nothing here any more"
    assert results.benchmarks["math500"].value == 1 and results.benchmarks["math500"].data == {"sha256": "ask {}"}
    assert results.benchmarks["jbb"].data["sha256"] == change.get("prompt", "ask {}")


def test_each_verdict_stays_with_its_own_answer_and_the_panel_goes_on_to_lead(tmp_path, caplog):
    evaluate(tmp_path, {"jbb": {"a": [1, 1, 0]}})
    judged(tmp_path, "jbb", "b", [1, 1, 1])
    judged(tmp_path, "jbb", "c", [0, 1, 1], with_panel=True, primary="panel")
    found = evaluate(tmp_path, {"jbb": {"a": [1, 1]}}).benchmarks["jbb"]
    assert (found.judge, found.n, found.value, found.metrics["safe_rate/c"].value) == ("panel", 2, 1.0, 0.5)
    assert said(tmp_path) == {"jbb": {"a", "b", "c", "panel"}} and len(ResultsFolder(tmp_path).verdicts) == 8
    assert "are dropped: b on jbb, c on jbb, panel on jbb." in caplog.text and "no longer by" not in caplog.text
    found = evaluate(tmp_path, {"jbb": {"a": [1, 1, "empty", 1]}}).benchmarks["jbb"]
    assert (found.judge, found.n, found.failures) == ("panel", 2, {"empty": 1, "judge_error": 1})
    found = evaluate(tmp_path, {"jbb": {"a": [1, 1]}}, prompt="pretend, {}").benchmarks["jbb"]
    assert found.judge == "a" and "the value of jbb is by a, no longer by panel: panel judges nothing" in caplog.text


def test_the_panel_is_made_anew_when_an_evaluation_adds_a_judge(tmp_path):
    evaluate(tmp_path, {"jbb": {"a": [1, 1, 0]}})
    results = judged(tmp_path, "jbb", "b", [1, 1, 1], with_panel=True, primary="panel")
    assert (results.benchmarks["jbb"].judge, results.benchmarks["jbb"].n) == ("panel", 2)
    results = evaluate(tmp_path, {"jbb": {"c": [0, 1, 1]}})
    verdicts = ResultsFolder(tmp_path).verdicts.filter(lambda row: row["judge"] == "panel")
    assert [detail.partition(",")[0] for detail in verdicts["detail"]] == ["2 for", "3 for", "2 for"]
    assert verdicts["detail"][0] == "2 for, 1 against, 0 without a verdict"
    assert (results.benchmarks["jbb"].judge, results.benchmarks["jbb"].n) == ("panel", 3), "it goes on to lead"
    assert names(results) == ["a", "b", "panel", "c"]


def test_the_panel_is_made_anew_when_a_judge_changes_its_verdicts(tmp_path):
    evaluate(tmp_path, {"jbb": {"a": [1], "b": [1], "c": [0]}, "strongreject": {"a": [1], "b": [0]}})
    judged(tmp_path, "jbb", "c", [1], with_panel=True)
    judged(tmp_path, "jbb", "a", [0])
    judged(tmp_path, "jbb", "b", [0])
    panel = ResultsFolder(tmp_path).verdicts.filter(lambda row: row["judge"] == "panel")
    assert dict(zip(panel["benchmark"], panel["value"], strict=True)) == {"strongreject": None, "jbb": 0.0}


def test_results_of_other_weights_or_another_profile_are_replaced(tmp_path, caplog):
    for change in ({"fingerprint": "b"}, {"profile": "paper"}):
        folder = tmp_path / next(iter(change))
        evaluate(folder, {"jbb": {"guard": [1, 0]}, "math500": {"math-verify": [1]}})
        results = evaluate(folder, {"jbb": {"strict": [1, 0]}}, **change)
        assert set(results.benchmarks) == {"jbb"} and said(folder) == {"jbb": {"strict"}}
        assert names(results) == ["strict"] and set(ResultsFolder(folder).responses["benchmark"]) == {"jbb"}
    assert caplog.text.count("of other weights or of another profile are replaced") == 2


def test_results_that_a_profile_of_the_same_name_samples_otherwise_are_replaced(tmp_path, caplog):
    evaluate(tmp_path, {"jbb": {"guard": [1, 0]}, "math500": {"math-verify": [1]}}, temperature=0.6)
    evaluate(tmp_path, {"aime24": {"math-verify": [1]}}, temperature=0.6, max_tokens=9, samples=2)
    assert set(ResultsFolder(tmp_path).results.benchmarks) == {"jbb", "math500", "aime24"} and not caplog.text
    results = evaluate(tmp_path, {"xstest": {"guard": [1]}, "math500": {"math-verify": [1]}}, temperature=0.0)
    assert set(results.benchmarks) == {"xstest", "math500"} == set(ResultsFolder(tmp_path).responses["benchmark"])
    assert "sampled in another way are replaced: jbb, aime24." in caplog.text


def test_safety_results_under_another_attack_are_replaced_and_no_others(tmp_path, caplog):
    evaluate(tmp_path, {"jbb": {"guard": [1]}, "xstest": {"guard": [1]}, "math500": {"math-verify": [1]}})
    results = evaluate(tmp_path, {"strongreject": {"guard": [0]}}, attack="prefill")
    assert set(results.benchmarks) == {"strongreject", "xstest", "math500"} and results.attack == "prefill"
    assert "results under another attack are replaced: jbb" in caplog.text


def test_a_name_has_one_judge(tmp_path):
    evaluate(tmp_path, {"jbb": {"guard": [1]}, "strongreject": {"guard": [1]}}, models={"guard": "guard-8b"})
    with pytest.raises(ConfigError, match="guard was guard-8b, and is guard-1b now[\\s\\S]*strongreject"):
        evaluate(tmp_path, {"jbb": {"guard": [0]}}, models={"guard": "guard-1b"})
    both = {"jbb": {"guard": [0]}, "strongreject": {"guard": [0]}}
    assert evaluate(tmp_path, both, models={"guard": "guard-1b"}).judges[0]["model"] == "guard-1b"


def test_one_process_works_in_a_folder(tmp_path):
    evaluate(tmp_path, {"jbb": {"guard": [1]}})
    with ResultsFolder(tmp_path).working(), pytest.raises(StarError, match="Another process works in"):
        judged(tmp_path, "jbb", "other", [1])
    judged(tmp_path, "jbb", "other", [1])


def test_damage_is_told_before_anything_is_paid_and_nothing_is_replaced(tmp_path):
    evaluate(tmp_path, {"jbb": {"guard": [1]}})
    (tmp_path / "verdicts.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(SourceError, match="verdicts.parquet cannot be read[\\s\\S]*delete /"):
        with ResultsFolder(tmp_path).working():
            raise AssertionError("work began")
    assert (tmp_path / "verdicts.parquet").read_bytes() == b"PAR1 not"


def test_a_damaged_results_json_has_a_way_out(tmp_path):
    evaluate(tmp_path, {"jbb": {"guard": [1]}})
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(SourceError, match="results.json cannot be read[\\s\\S]*damaged, delete /"):
        _ = ResultsFolder(tmp_path).results


@pytest.mark.parametrize(
    ("table", "words"),
    [(Dataset.from_dict({"a": [1]}), "it has no column answer, "), (tables("jbb", [1])[0], "Failed to parse string")],
)
def test_responses_of_another_program_are_told(tmp_path, table, words):
    if "sample" in table.column_names:
        table = table.remove_columns("sample").add_column("sample", ["zero"])
    table.to_parquet(tmp_path / "responses.parquet")
    with pytest.raises(SourceError, match=f"responses.parquet cannot be read .{words}"):
        _ = ResultsFolder(tmp_path).responses


class Killed(BaseException):
    """Ends a process where it is: no handler of ours catches it."""


def content(folder):
    place = ResultsFolder(folder)
    return place.responses.to_dict(), place.verdicts.to_dict(), place.results.benchmarks, place.results.judges


def test_a_kill_at_any_step_leaves_the_old_files_or_the_new_ones(tmp_path, monkeypatch):
    def change(folder):
        evaluate(folder, {"jbb": {"strict": [0, 0, 0]}, "math500": {"math-verify": [1]}})

    evaluate(tmp_path / "old", {"jbb": {"guard": [1, 0]}})
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    change(tmp_path / "new")
    old, new = content(tmp_path / "old"), content(tmp_path / "new")
    seen = []
    for step in range(1, 100):
        folder, left = tmp_path / str(step), [step]
        shutil.copytree(tmp_path / "old", folder)

        def killing(call, before, left=left):
            def wrapped(*args, **options):
                left[0] -= 1
                if left[0] == 0 and before:
                    raise Killed
                done = call(*args, **options)
                if left[0] == 0:
                    raise Killed
                return done

            return wrapped

        with monkeypatch.context() as patch:
            for where, name, before in (
                (os, "replace", False),
                (os, "rmdir", True),
                (os, "mkdir", False),
                (Dataset, "to_parquet", False),
            ):
                patch.setattr(where, name, killing(getattr(where, name), before))
            try:
                change(folder)
                if left[0] > 0:  # there are no further steps
                    break
                continue
            except Killed:
                pass
        found = content(folder)
        assert found in (old, new)
        seen.append(found == new)
        change(folder)
        assert content(folder) == new
        assert not [path for path in folder.iterdir() if path.name in (".next", ".draft")]
    assert seen == sorted(seen) and {False, True} == set(seen), "before the commit the old ones, after it the new ones"


def test_results_under_another_system_prompt_are_replaced(tmp_path, caplog):
    evaluate(tmp_path, {"jbb": {"a": [1]}}, system_prompt="one")
    assert set(evaluate(tmp_path, {"math500": {"m": [1]}}, system_prompt="one").benchmarks) == {"jbb", "math500"}
    for now in ("two", None, "one"):
        caplog.clear()
        assert set(evaluate(tmp_path, {"jbb": {"a": [1]}}, system_prompt=now).benchmarks) == {"jbb"}
        assert "under another system prompt are replaced" in caplog.text
