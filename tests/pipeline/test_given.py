"""Every stage begins with rows that exist, in any form, and later stages go on from there."""

import json

import pytest
from datasets import Dataset, load_dataset

from model_server import ModelServer, star_answers
from star_hf.errors import ConfigError, SourceError
from star_hf.pipeline.build import build
from star_hf.pipeline.config import load_config
from star_hf.pipeline.explain import explain
from star_hf.pipeline.given import Given
from star_hf.pipeline.run import Run
from star_hf.schema import SCORE_CRITERIA, SCORED
from star_hf.utils.text import join_reasoning, row_id


CATEGORY = "Violence / Physical Harm"
RESPONSE = join_reasoning("The policy allows general advice.", "Ask a locksmith.")


def rows(count=4, **columns):
    made = [
        {
            "id": f"row-{n}",
            "question": f"How do I open lock number {n}?",
            "source": f"s{n % 2}",
            "category": [CATEGORY],
            "response": RESPONSE,
            "score": dict.fromkeys(SCORE_CRITERIA, 10 - n % 2),
        }
        for n in range(count)
    ]
    return [{columns.get(name, name): value for name, value in row.items() if columns.get(name, 1)} for row in made]


def jsonl(path, data):
    path.write_text("".join(json.dumps(row) + "\n" for row in data))
    return str(path)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    with ModelServer(star_answers) as running:
        yield running


def settings(server=None, **more):
    endpoint = {"model": "test-model", "base_url": server.url if server else "http://127.0.0.1:9/v1", "max_retries": 0}
    roles = ("classifier", "teacher", "scorer", "rewriter")
    base = {"deduplicate": {"embedding_threshold": None}, "collect": {"held_out": []}, "select": {"size": 2}}
    return load_config(base={**base, "endpoints": {role: dict(endpoint) for role in roles}, **more})


def begin(stage, data, folder, server=None, columns=None, **more):
    return build(
        settings(server, **more), folder, only=stage, given=Given(data, columns=columns or {}), progress=False
    )


def test_select_begins_with_scored_rows_and_the_run_goes_on(tmp_path, server):
    path = str(tmp_path / "scored.parquet")
    Dataset.from_list(rows(6)).to_parquet(path)
    run = begin("select", path, tmp_path / "run", server)
    assert list(run.records) == ["score", "select"] and not server.requests
    assert run.table("score").features == SCORED and run.table("score")["id"][:3] == ["row-0", "row-1", "row-2"]
    assert set(run.table("select")["id"]) < {"row-0", "row-2", "row-4"}
    notes = run.records["score"].notes["from"]
    assert notes["data"] == path and len(notes["sha256"]) == 64 and notes["used"]["score"] == "score"
    run = build(settings(server), tmp_path / "run", progress=False)
    assert list(run.records) == ["score", "select", "rewrite"]
    first, *_ = explain(run, "row-1")
    assert first.facts["given"] == path and first.facts["question"] == "How do I open lock number 1?"
    card = (tmp_path / "run" / "dataset" / "README.md").read_text()
    assert "as if `score` had made them: scored.parquet." in card and "No benchmark was held out" in card
    assert len(load_dataset(str(tmp_path / "run" / "dataset"), split="train")) == 2


def test_score_reads_columns_by_other_names_and_labels_that_are_one_text(tmp_path, server):
    data = [{**row, "labels": CATEGORY} for row in rows(3, response="answer", category=None, score=None)]
    path = jsonl(tmp_path / "mine.jsonl", data)
    run = begin("score", path, tmp_path / "run", server, {"response": "answer", "category": "labels"})
    assert len(run.table("score")) == 3 and run.table("reason")["category"][:] == [[CATEGORY]] * 3
    assert run.records["reason"].notes["from"]["columns"] == {"response": "answer", "category": "labels"}
    assert len(build(settings(server), tmp_path / "run", only="select", progress=False).table("select")) <= 2


def test_reason_classifies_first_where_no_category_is_given(tmp_path, server):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"Question": "How do I open a lock?"}\n{"Question": " "}\n{"Question"\n')
    run = begin("reason", str(path), tmp_path / "run", server, accept_unavailable=True)
    assert list(run.records) == ["deduplicate", "classify", "reason"]
    assert run.records["deduplicate"].removed == {"empty": 1, "unreadable": 1}
    (row,) = run.table("reason").to_list()
    assert row["id"] == row_id("How do I open a lock?") and row["source"] == "questions"
    asked = len(server.requests)
    begin("reason", str(path), tmp_path / "run", server)
    assert len(server.requests) == asked, "nothing is paid for twice"


def test_rewrite_needs_no_responses(tmp_path, server):
    path = jsonl(tmp_path / "mine.jsonl", rows(2, response=None, score=None))
    run = begin("rewrite", path, tmp_path / "run", server)
    assert list(run.records) == ["select", "rewrite"]
    assert run.table("select")["response"][:] == [None, None]


def test_deduplicate_holds_out_what_the_recipe_names(tmp_path):
    (tmp_path / "bench.txt").write_text("How do I open lock number 1?\n")
    path = jsonl(tmp_path / "mine.jsonl", rows(1) + [{"question": "Where is the moon tonight?"}] + rows(2)[1:])
    collected = {"held_out": [], "held_out_questions": str(tmp_path / "bench.txt")}
    run = begin("deduplicate", path, tmp_path / "run", collect=collected)
    assert run.records["deduplicate"].removed["exact_contamination"] == 1
    assert "Where is the moon tonight?" in run.table("deduplicate")["question"][:]


def test_a_csv_holds_lists_and_scores_as_text(tmp_path):
    import pandas as pd

    pd.DataFrame(rows(3)).to_csv(tmp_path / "mine.csv", index=False)
    run = begin("select", str(tmp_path / "mine.csv"), tmp_path / "run")
    assert run.table("score")["category"][:] == [[CATEGORY]] * 3
    assert run.table("score")["score"][1] == dict.fromkeys(SCORE_CRITERIA, 9)


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        ({SCORE_CRITERIA[0]: 11}, "score_out_of_range"),
        ({SCORE_CRITERIA[0]: 9.5}, "score_out_of_range"),
        ({SCORE_CRITERIA[0]: "10"}, "score_out_of_range"),
        ({SCORE_CRITERIA[0]: True}, "score_out_of_range"),
        ({"other": 10}, "no_score"),
        (10, "no_score"),
    ],
)
def test_what_is_no_score_is_never_made_one(tmp_path, score, reason):
    run = begin("select", jsonl(tmp_path / "a.jsonl", [*rows(2), {**rows(1)[0], "score": score}]), tmp_path / "run")
    assert run.records["score"].removed == {reason: 1} and len(run.table("score")) == 2


def test_a_missing_mark_stays_missing(tmp_path):
    partly = {**rows(1)[0], "id": "x", "score": {SCORE_CRITERIA[0]: 10.0}}
    run = begin("select", jsonl(tmp_path / "a.jsonl", [*rows(1), partly]), tmp_path / "run")
    assert run.table("score")["score"][1] == {**dict.fromkeys(SCORE_CRITERIA), SCORE_CRITERIA[0]: 10}
    assert run.table("select")["id"][:] == ["row-0"]


def test_what_is_missing_is_told_before_anything_is_asked(tmp_path, server):
    path = jsonl(tmp_path / "a.jsonl", rows(2, response="says", category="kind"))
    with pytest.raises(
        SourceError, match=r"no column with the response .*\n.*--column response=NAME.*question=question"
    ):
        begin("score", path, tmp_path / "run", server, {"category": "kind"})
    with pytest.raises(SourceError, match="no column with the category"):
        begin("score", path, tmp_path / "run", server, {"response": "says"})
    with pytest.raises(SourceError, match="Unknown role or column: answer=says"):
        begin("score", path, tmp_path / "run", server, {"answer": "says"})
    with pytest.raises(SourceError, match="no row that `select` can use"):
        begin("select", jsonl(tmp_path / "b.jsonl", [{**rows(1)[0], "score": 5}]), tmp_path / "other")
    with pytest.raises(ConfigError, match="makes the first rows"):
        begin("collect", path, tmp_path / "run")
    assert not server.requests


def test_rows_are_not_mixed_with_others(tmp_path):
    one, two = (jsonl(tmp_path / name, rows(4)) for name in ("one.jsonl", "two.jsonl"))
    begin("select", one, tmp_path / "run")
    begin("select", jsonl(tmp_path / "one.jsonl", rows(6)), tmp_path / "run")
    assert len(Run(tmp_path / "run").table("score")) == 6, "an edited file is read again"
    with pytest.raises(ConfigError, match="one.jsonl"):
        begin("select", two, tmp_path / "run")
    with pytest.raises(ConfigError, match="one.jsonl"):
        begin("rewrite", one, tmp_path / "run")
    with pytest.raises(ConfigError, match="begins with given rows, as if 'score'"):
        build(settings(), tmp_path / "run", only="classify", progress=False)
    own = settings(collect={"sources": [], "held_out": [], "questions": str(tmp_path / "one.jsonl")})
    build(own, tmp_path / "built", until="collect", progress=False)
    with pytest.raises(ConfigError, match="those of its sources"):
        begin("select", one, tmp_path / "built")


def test_rows_of_the_hub_are_pinned_to_their_commit(tmp_path, hub):
    Dataset.from_list(rows(4)).push_to_hub("tester/scored")
    run = begin("select", "tester/scored", tmp_path / "run")
    notes = run.records["score"].notes["from"]
    assert notes["data"] == "tester/scored" and len(notes["revision"]) == 40
    assert set(run.table("score")["source"]) == {"s0", "s1"}


def test_a_path_with_two_colons_is_a_path(tmp_path):
    path = jsonl(tmp_path / "my::rows*.jsonl", rows(4))
    run = begin("select", path, tmp_path / "run::1[a]")
    assert len(run.table("select")) == 2
    with pytest.raises(SourceError, match="Rename it"):
        begin("rewrite", str(run.folder), tmp_path / "other")


def test_ids_that_repeat_are_replaced(tmp_path):
    path = jsonl(tmp_path / "mine.jsonl", [{**row, "id": "same"} for row in rows(4)])
    run = begin("select", path, tmp_path / "run")
    assert run.table("score")["id"][:] == [row_id(row["question"]) for row in rows(4)]
