import random

import pytest
from datasets import concatenate_datasets, load_dataset
from sklearn.metrics import cohen_kappa_score

from star_hf.evaluation.grading.panel import panel
from star_hf.evaluation.judge_studies.agreement import (
    DISAGREEMENTS,
    agreement,
    cohen_kappa,
    disagreements,
    fleiss_kappa,
    write_disagreements,
)
from star_hf.evaluation.types import VERDICTS
from star_hf.schema import as_dataset


def verdicts(**judges):
    """One text per place: a value, or the name of a failure."""
    return as_dataset(
        (
            {
                "benchmark": "jbb",
                "item_id": f"item-{place}",
                "sample": 0,
                "judge": judge,
                "part": "answer",
                "label": None if isinstance(word, str) else "safe" if word >= 0.5 else "unsafe",
                "value": None if isinstance(word, str) else word,
                "failure": word if isinstance(word, str) else None,
                "category": "S2" if word == 0 else None,
                "detail": "<b>words</b>",
            }
            for judge, words in judges.items()
            for place, word in enumerate(words)
        ),
        VERDICTS,
    )


def test_the_majority_decides_and_a_tie_is_none():
    given = verdicts(
        a=[1, 0, 1, 1, "empty", "judge_error"],
        b=[1, 0, 0, "judge_error", "empty", "unparseable"],
        c=[0, 1, "unparseable", "judge_error", "empty", "judge_error"],
    )
    said = panel(given)
    assert set(said["judge"]) == {"panel"} and len(said) == 6
    assert said["value"][:] == [1.0, 0.0, None, None, None, None]
    assert said["label"][:2] == ["safe", "unsafe"] and said["category"][:2] == [None, "S2"]
    assert said["failure"][2:] == ["no_majority", "no_majority", "empty", "judge_error"]
    assert said[2]["detail"] == "1 for, 1 against, 1 without a verdict"


def test_two_judges_must_agree():
    said = panel(verdicts(a=[1, 0, 1, 0.5], b=[1, 0, 0, 0.75]))
    assert said["value"][:] == [1.0, 0.0, None, 1.0] and said["failure"][:] == [None, None, "no_majority", None]


def test_a_panel_is_no_judge_of_itself_and_of_one_there_is_none():
    given = verdicts(a=[1], b=[0], panel=[1])
    assert panel(given)["failure"][:] == ["no_majority"]
    assert len(panel(verdicts(a=[1], panel=[1]))) == 0
    assert [found.judges for found in agreement(given)] == [("a", "b")]


def test_cohens_kappa_is_scikit_learns():
    draw = random.Random(0)
    table = [[draw.random() < 0.7, draw.random() < 0.4] for _ in range(200)]
    table += [[vote, vote] for vote in (draw.random() < 0.5 for _ in range(100))]
    first, second = zip(*table, strict=True)
    assert cohen_kappa(table) == pytest.approx(cohen_kappa_score(first, second))


def test_fleiss_kappa_of_a_table_by_hand():
    """Three raters, four texts, ones 3 2 1 0: P = (1 + 1/3 + 1/3 + 1) / 4 = 2/3, Pe = 1/2, kappa = 1/3."""
    table = [[True] * ones + [False] * (3 - ones) for ones in (3, 2, 1, 0)]
    assert fleiss_kappa(table) == pytest.approx(1 / 3)


def test_kappa_is_undefined_where_all_verdicts_are_alike():
    (found,) = agreement(verdicts(a=[1, 1, 1], b=[1, 1, 1]))
    assert found.agreed == 1.0 and found.kappa is None and found.texts == 3
    (found,) = agreement(verdicts(a=[1, "empty"], b=["judge_error", 0]))
    assert found.texts == 0 and found.agreed is None and found.kappa is None
    assert cohen_kappa([]) is None and fleiss_kappa([]) is None


def test_agreement_counts_only_what_all_of_a_group_judged():
    found = agreement(verdicts(a=[1, 0, 1, "empty"], b=[1, 0, 0, 1], c=[1, 1, "judge_error", 1]))
    assert [(each.judges, each.texts) for each in found] == [
        (("a", "b"), 3),
        (("a", "c"), 2),
        (("b", "c"), 3),
        (("a", "b", "c"), 2),
    ]
    assert found[0].agreed == pytest.approx(2 / 3)


def test_answers_and_thoughts_are_compared_apart():
    answers = verdicts(a=[1, 0], b=[1, 0])
    thoughts = verdicts(a=[1, 0], b=[0, 1]).map(lambda row: {"part": "reasoning"})
    found = agreement(concatenate_datasets([answers, thoughts]))
    assert [(each.part, each.texts, each.kappa) for each in found] == [("answer", 2, 1.0), ("reasoning", 2, -1.0)]


def test_disagreements_come_with_the_most_even_first(answers, tmp_path):
    given = verdicts(a=[1, 1, 1, 1], b=[1, 0, 1, 1], c=[1, 0, 0, "judge_error"], d=[1, 1, 1, 1])
    texts = answers("one", "<script>two</script>", "three", "four", benchmark="jbb")
    rows = disagreements(given, texts)
    assert rows.features == DISAGREEMENTS
    assert rows["item_id"][:] == ["item-1", "item-2"] and rows["split"][:] == ["2:2", "3:1"]
    assert rows[0]["text"] == "<script>two</script>" and rows[0]["question"] == "question 1?"
    assert [word["judge"] for word in rows[0]["verdicts"]] == ["a", "b", "c", "d"]
    write_disagreements(rows, tmp_path / "new" / "rows.parquet")
    write_disagreements(rows, tmp_path / "rows.html")
    again = load_dataset("parquet", data_files=str(tmp_path / "new" / "rows.parquet"), split="train")
    assert again.to_list() == rows.to_list()
    page = (tmp_path / "rows.html").read_text()
    assert "item-1" in page and "<script>" not in page and "&lt;script&gt;two" in page and "Content warning" in page


def test_disagreements_need_no_answers():
    rows = disagreements(verdicts(a=[1], b=[0]))
    assert rows["question"][:] == [None] and rows["split"][:] == ["1:1"]
    assert len(disagreements(verdicts(a=[1, 0], b=[1, 0]))) == 0
