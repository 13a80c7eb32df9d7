"""A round's rows: where the questions are from, what is left out, and what the trainer is given."""

import json

import pytest
from improve_world import ImproveWorld, options, sentence

from star_hf.errors import ConfigError, StarError
from star_hf.improve import data, loop
from star_hf.improve.allocation import Quota
from star_hf.improve.ledger import Ledger
from star_hf.improve.measure import Subject
from star_hf.training.recipe import read_options
from star_hf.utils.files import read_table


ONE = "Keys, doors#rule-1"
QUOTAS = {ONE: Quota(16, 4)}


def made(world, server, quotas=None, number=1, **changes):
    """The data of one round, and its training."""
    config = options(world.run.parent / "in", server.url, world, **changes)
    subject, ledger = Subject.of(config), Ledger(world.run)
    return subject, ledger, loop._data(subject, ledger, number, quotas or QUOTAS, None, False)


def table(world, name, number=1):
    return read_table(world.run / f"round-{number}" / f"{name}.parquet")


def questions(world, number=1):
    lines = (world.run / f"round-{number}" / "train.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines]


def test_drafts_that_are_like_sealed_cases_are_left_out_and_others_take_their_places(tmp_path):
    def twist(rule, styles, cases):
        copies = iter(world.suite.half("sealed").cases)
        for case in cases[::3]:
            if len(case["turns"]) == 1:
                case["turns"] = [next(copies).turns[0].replace("?", " please?")]

    world = ImproveWorld(tmp_path, {}, twist=twist)
    with world.server() as server:
        _, _, (counts, rows) = made(world, server)
    reasons = table(world, "removed")["reason"][:]
    assert sum(reason.endswith("_contamination") for reason in reasons) >= 2
    assert "several_turns" in reasons, "a conversation is no row"
    assert counts == QUOTAS and rows == 16, "the next drafts"
    sealed = {case.turns[0][:40] for case in world.suite.half("sealed").cases}
    assert not sealed & {question[:40] for question in questions(world)}


def test_a_training_half_that_is_like_the_sealed_half_is_left_out_too(tmp_path):
    from dataclasses import replace

    world = ImproveWorld(tmp_path, {})
    cases = list(world.suite.cases)
    place = next(n for n, case in enumerate(cases) if case.rule == ONE and case.half == "training")
    sealed = world.suite.half("sealed").cases[0]
    cases[place] = replace(cases[place], turns=(sealed.turns[0].replace("?", " now?"),), id="")
    world.suite = replace(world.suite, cases=tuple(cases))
    with world.server() as server:
        made(world, server)
    removed = table(world, "removed")
    assert cases[place].id in removed["id"][:] and sealed.id in removed["matched_id"][:]


def test_a_sealed_case_that_gets_past_the_filters_is_refused(tmp_path, monkeypatch):
    def twist(rule, styles, cases):
        cases[0]["turns"] = [world.suite.half("sealed").cases[0].turns[0]]

    world = ImproveWorld(tmp_path, {}, twist=twist)
    with world.server() as server:
        monkeypatch.setattr(data, "near_copies", lambda rows, sealed, **options: rows.select([]))
        with pytest.raises(StarError, match="like sealed cases: line"):
            made(world, server)


def test_rows_that_were_there_are_mixed_in_but_for_copies_of_sealed_cases(tmp_path):
    world = ImproveWorld(tmp_path, {})
    sealed = world.suite.half("sealed").cases[3]
    there = [sentence("old 1"), sentence("old 2"), sealed.turns[0]]
    (tmp_path / "old.jsonl").write_text("\n".join(json.dumps({"question": q, "response": "Sure."}) for q in there))
    with world.server() as server:
        _, ledger, (_, rows) = made(world, server, data=str(tmp_path / "old.jsonl"))
    left = table(world, "train_removed")
    assert (rows, left["reason"][:], left["matched_id"][:]) == (18, ["exact_contamination"], [sealed.id])
    assert ledger.stages["round-1 mixture"].notes == {"rows": 18, "given": 3, "removed": 1}
    assert sealed.turns[0] not in questions(world) and set(there[:2]) <= set(questions(world))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "conversations"),
        ({"question": "a", "response": " "}, "row 1 has no question or no response"),
        ({"question": "a"}, "row 1 has no question or no response"),
    ],
)
def test_rows_that_cannot_be_mixed_in_are_one_message(tmp_path, row, message):
    (tmp_path / "old.jsonl").write_text(json.dumps(row))
    with pytest.raises(ConfigError, match=message):
        list(data._given(str(tmp_path / "old.jsonl")))


def test_only_full_marks_are_trained_on_and_spare_answers_are_counted(tmp_path):
    world = ImproveWorld(tmp_path, {})
    world.score = 9
    with world.server() as server:
        _, _, (counts, rows) = made(world, server, rows={"spare": 1.5})
        assert (counts, rows) == ({ONE: Quota(0, 0)}, 0) and world.roles["teacher"] == 24
        assert set(table(world, "rows_removed")["reason"]) == {"below_full_marks"}
        _, _, (counts, rows) = made(world, server, rows={"minimum": 9, "spare": 1.5})
    assert counts == QUOTAS and rows == 16
    assert table(world, "rows_removed")["reason"][:] == ["spare"] * 8
    assert max(world.paid.values()) == 1, "another minimum asks nobody again"


def test_our_own_trainer_gets_a_recipe(tmp_path, monkeypatch):
    world, seen = ImproveWorld(tmp_path, {}), []
    monkeypatch.setattr(loop, "run_trainer", lambda command, output, identity: seen.append(command) or 1 / 0)
    recipe = {"recipe": "recipes/SmolLM2-135M-Instruct/sft/config_demo.yaml"}
    with world.server() as server:
        subject, ledger, _ = made(world, server, {ONE: Quota(2, 0)}, train=recipe)
        with pytest.raises(ZeroDivisionError):
            loop._train(subject, ledger, 1)
    assert seen[0][1].endswith("recipes/sft.py") and seen[0][2] == "--config"
    given = read_options(seen[0][3])
    assert given["learning_rate"] == 4e-4 and given["model_name_or_path"] == "base"
    assert given["output_dir"] == str(world.run / "round-1" / "model")
    path = str(world.run / "round-1" / "train.jsonl")
    assert given["datasets"] == [{"path": path, "columns": ["question", "response"]}]


@pytest.mark.long
@pytest.mark.parametrize("system", [None, "You keep the doors."])
def test_our_own_trainer_can_read_what_it_is_given(tmp_path, monkeypatch, system):
    from star_hf.training.data import load_rows
    from star_hf.training.trainers.sft import parse

    world, seen = ImproveWorld(tmp_path, {}), []
    monkeypatch.setattr(loop, "run_trainer", lambda command, output, identity: seen.append(command) or 1 / 0)
    given = {"train": {"recipe": "recipes/SmolLM2-135M-Instruct/sft/config_demo.yaml"}}
    if system:
        (tmp_path / "prompt.txt").write_text(system)
        given["system_prompt"] = str(tmp_path / "prompt.txt")
    with world.server() as server:
        subject, ledger, _ = made(world, server, {ONE: Quota(2, 0)}, **given)
        with pytest.raises(ZeroDivisionError):
            loop._train(subject, ledger, 1)
    rows = load_rows(parse(["--config", seen[0][3]]))
    assert len(rows) == 2 and all("</think>" in response for response in rows["response"])
    if system:
        assert rows["history"][0] == [{"role": "system", "content": system}]
