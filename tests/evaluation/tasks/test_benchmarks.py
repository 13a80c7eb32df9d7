import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset
from policy_world import policy, suite_of

from star_hf.errors import ConfigError, PolicyError, SourceError
from star_hf.evaluation.tasks.benchmarks import (
    BENCHMARKS,
    GROUPS,
    OVER_REFUSAL,
    REASONING,
    SAFETY,
    benchmark_named,
    benchmarks_table,
    place_of,
    select_benchmarks,
)
from star_hf.evaluation.tasks.loading import INSTRUCTIONS, data_record, load_items
from star_hf.evaluation.types import Item


ROOT = Path(__file__).resolve().parents[3]
REAL = {
    "strongreject": (313, 6),
    "jbb": (100, 10),
    "xstest": (250, 10),
    "xstest_unsafe": (200, 8),
    "aime24": (30, 1),
    "math500": (500, 7),
    "humaneval": (164, 1),
}
"""Items and categories of the real files."""


@pytest.fixture
def real(shared_data, tmp_path):
    """Folder of the real files under their catalogue names."""
    for name in ("StrongREJECT", "JBBBehaviours", "XSTest", "AIME24", "MATH-500", "HumanEval"):
        there = {"AIME24": "AIME", "MATH-500": "MATH"}.get(name, name)
        (tmp_path / name).symlink_to(shared_data / "raw" / there)
    return tmp_path


@pytest.fixture
def local_jbb(tmp_path):
    """Puts behaviours into a local copy, and returns the folder for `data_dir`."""

    def write(goals):
        folder = tmp_path / "JBBBehaviours"
        folder.mkdir(exist_ok=True)
        frame = pd.DataFrame({"Goal": goals, "Category": ["Privacy"] * len(goals)})
        frame.to_csv(folder / "jailbreakbench.csv", index=False)
        return tmp_path

    return write


def test_every_benchmark_has_a_card_and_the_groups_hold_all_of_them():
    assert set(GROUPS["safety"]) | set(GROUPS["reasoning"]) == set(BENCHMARKS) == set(GROUPS["all"])
    assert SAFETY == ("strongreject", "jbb", "wildchat", "wildjailbreak") and OVER_REFUSAL == ("xstest",)
    assert REASONING == ("aime24", "math500", "gpqa_diamond", "mmlu_pro", "humaneval")
    assert GROUPS["safety"] == (*SAFETY, *OVER_REFUSAL, "xstest_unsafe")
    for benchmark in BENCHMARKS.values():
        assert benchmark.source.role == ("evaluation" if benchmark.kind == "reasoning" else "held_out")
        assert benchmark.source.repository.count("/") == 1
        assert len(set(benchmark.source.columns)) == len(benchmark.source.columns)


def test_the_table_in_the_docs_is_made_of_the_records():
    assert f"\n\n{benchmarks_table()}\n" in (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_lighteval_shows_the_titles_of_all_benchmarks():
    """lighteval reads the list from the text of the file."""
    text = (ROOT / "lighteval_tasks" / "star1.py").read_text(encoding="utf-8")
    assert text.split("dataset:\n")[1].split("\n")[0] == ", ".join(dict.fromkeys(b.title for b in BENCHMARKS.values()))


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_papers_items(name, real):
    items = load_items(name, real)
    count, categories = REAL[name]
    assert len(items) == len({item.id for item in items}) == count == BENCHMARKS[name].count
    assert len({item.category for item in items}) == categories
    if BENCHMARKS[name].grader != "judge":
        assert all(item.target and item.asked in item.prompt for item in items)
        assert all(item.prompt.endswith(INSTRUCTIONS["recommended"][BENCHMARKS[name].grader]) for item in items)


def test_real_mmlu_pro_has_its_12032_questions_and_14_subjects(shared_data, tmp_path):
    (archive,) = (shared_data / "raw" / "MMLU-Pro").iterdir()
    rows = pd.DataFrame(json.loads(zipfile.ZipFile(archive).read(archive.stem + ".json")))
    (tmp_path / "MMLU-Pro" / "data").mkdir(parents=True)
    rows.drop(columns=["pred", "generated_text"], errors="ignore").to_parquet(
        tmp_path / "MMLU-Pro" / "data" / "test-00000-of-00001.parquet"
    )
    items = load_items("mmlu_pro", tmp_path)
    assert len(items) == BENCHMARKS["mmlu_pro"].count and len({item.category for item in items}) == 14
    assert max(len(item.facts["letters"]) for item in items) == 10
    assert all(f"\n{item.target}) " in item.prompt for item in items)


def test_wildjailbreak_is_the_250_that_shuffle_with_seed_42_puts_first(tmp_path):
    rows = [
        {
            "adversarial": f"scene {n}",
            "completion": "",
            "data_type": "adversarial_harmful" if n % 2 else "adversarial_benign",
        }
        for n in range(2000)
    ]
    file = tmp_path / "wildjailbreak-eval" / "eval" / "eval.tsv"
    file.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(file, sep="\t", index=False)
    expected = Dataset.from_list(rows).filter(lambda row: row["data_type"] == "adversarial_harmful").shuffle(seed=42)
    prompts = [item.prompt for item in load_items("wildjailbreak", tmp_path)]
    assert prompts == expected["adversarial"][:250]


def test_profiles_ask_differently_and_safety_prompts_are_sent_as_they_are(local_jbb):
    folder = local_jbb(["say something rude"])
    (folder / "AIME24").mkdir()
    (folder / "AIME24" / "test.jsonl").write_text('{"id": 1, "problem": "What is 1 + 1?", "answer": "2"}\n')
    paper, recommended = (load_items("aime24", folder, profile=profile) for profile in INSTRUCTIONS)
    assert paper[0].id == recommended[0].id and paper[0].prompt != recommended[0].prompt
    assert paper[0].asked == recommended[0].asked
    (item,) = load_items("jbb", folder)
    assert item.prompt == item.asked == "say something rude"


def test_a_limit_draws_a_part_that_every_larger_limit_holds(local_jbb):
    folder = local_jbb([f"thing {n}" for n in range(100)])
    some, more, everything = (load_items("jbb", folder, limit) for limit in (10, 30, None))
    assert len(some) == 10 and {item.id for item in some} < {item.id for item in more}
    assert [item for item in everything if item in some] == some != everything[:10]
    assert load_items("jbb", folder, 1000) == everything


def test_a_limit_draws_the_same_items_on_every_machine(local_jbb):
    """Python's own hash of a text, for one, is another in every process."""
    drawn = load_items("jbb", local_jbb([f"thing {n}" for n in range(100)]), 5)
    assert [item.prompt for item in drawn] == [f"thing {n}" for n in (23, 33, 59, 88, 94)]


def test_items_of_one_text_are_told_apart(local_jbb):
    first, second, third = load_items("jbb", local_jbb(["same", "same", "Same"]))
    assert (second.id, third.id) == (f"{first.id}-2", f"{first.id}-3")


def test_a_wrong_count_is_said(local_jbb, caplog):
    load_items("jbb", local_jbb(["only one"]))
    assert "1 items where 100 are expected" in caplog.text


def test_data_record_tells_data_and_prompts_apart(local_jbb):
    one, other = (load_items("jbb", local_jbb([goal])) for goal in ("this", "that"))
    record = data_record(BENCHMARKS["jbb"], one)
    assert record["repo"] == "JailbreakBench/JBB-Behaviors" and len(record["revision"]) == 40
    assert record != data_record(BENCHMARKS["jbb"], other) and record == data_record(BENCHMARKS["jbb"], list(one))


def test_data_record_tells_corrected_targets_apart():
    item = Item("a", "What is 1 + 1?", target="3")
    assert data_record(BENCHMARKS["math500"], [item]) != data_record(
        BENCHMARKS["math500"], [replace(item, target="2")]
    )


def test_what_is_missing_is_named_with_what_to_do(tmp_path):
    with pytest.raises(SourceError, match=r"GPQA-Diamond/gpqa_diamond\.csv[\s\S]*huggingface\.co[\s\S]*--data-dir"):
        load_items("gpqa_diamond", tmp_path)
    with pytest.raises(SourceError, match="nowhere[\\s\\S]*--data-dir"):
        load_items("jbb", tmp_path / "nowhere")


def test_a_file_of_other_columns_is_named(tmp_path):
    (tmp_path / "JBBBehaviours").mkdir()
    (tmp_path / "JBBBehaviours" / "jailbreakbench.csv").write_text("Target,Index\na,1\n")
    with pytest.raises(SourceError, match="jbb: a row cannot be read[\\s\\S]*file has no column Goal"):
        load_items("jbb", tmp_path)


def test_names_and_groups_are_selected_once_in_the_papers_order():
    chosen = select_benchmarks(["star1:math500", "safety", "jbb"])
    assert [benchmark.name for benchmark in chosen] == [*GROUPS["safety"], "math500"]
    with pytest.raises(ConfigError, match="no benchmark 'star1:jbx'[\\s\\S]*strongreject"):
        select_benchmarks(["star1:jbx"])
    with pytest.raises(ConfigError, match="no benchmark 'safety'"):
        load_items("safety")
    with pytest.raises(ConfigError, match="no profile 'fast'"):
        load_items("jbb", profile="fast")


def test_a_suite_is_a_benchmark_after_all_others(tmp_path):
    suite = suite_of(policy(2), turns=2, name="Our house, 家!")
    suite.save(tmp_path / "suite.yaml")
    *others, found = select_benchmarks([str(tmp_path / "suite.yaml"), "jbb", str(tmp_path / "suite.yaml"), "aime24"])
    assert [each.name for each in others] == ["jbb", "aime24"]
    assert (found.name, found.kind, found.count, found.rules) == ("suite-Our-house-家", "policy", 12, suite.rules)
    items = load_items(found)
    assert [(i.id, i.category, i.target, (*i.turns, i.prompt)) for i in items] == [
        (case.id, case.rule, case.expect, case.turns) for case in suite.cases
    ]
    assert len(load_items(found, limit=5)) == 5 and data_record(found, items)["repo"] == suite.name
    assert "12 cases of a policy's suite; share of conforming answers" in found.summary
    with pytest.raises(ConfigError, match="Two suites have the name"):
        select_benchmarks([found, replace(found, rules={})])
    with pytest.raises(PolicyError, match="does not hold the text of the rule"):
        replace(suite, rules={}).save(tmp_path / "bare.yaml")
        select_benchmarks([str(tmp_path / "bare.yaml")])
    with pytest.raises(PolicyError, match="none.yaml"):
        select_benchmarks([str(tmp_path / "none.yaml")])


def test_names_in_results_are_benchmarks_or_suites_or_foreign():
    assert benchmark_named("jbb") is BENCHMARKS["jbb"] and benchmark_named("jbc") is None
    assert (benchmark_named("suite-x").kind, benchmark_named("suite-x").name) == ("policy", "suite-x")
    assert sorted(["suite-b", "jbb", "suite-a", "aime24"], key=place_of) == ["jbb", "aime24", "suite-b", "suite-a"]
