import hashlib

import pytest

from star_hf.errors import StarError
from star_hf.llm import Completion, Journal
from star_hf.llm.journal import Entry
from star_hf.llm.journal.upkeep import Selection, prune, usage


def entry(index):
    """Answers of two stages and two prompt versions, day by day; every fifth is truncated, every third unpriced."""
    completion = Completion(
        "x" * 2_000,
        outcome="truncated" if index % 5 == 0 else "ok",
        prompt_tokens=index,
        completion_tokens=10,
        model="m-1",
        latency_s=float(index),
    )
    stage, version = ("reason", "score")[index % 2], ("aa11", "ab22")[index // 30]
    cost = None if index % 3 == 0 else 0.25
    key = hashlib.sha256(str(index).encode()).hexdigest()
    return Entry(key, stage, "http://x/v1", version, completion, cost, float(index))


ENTRIES = [entry(index) for index in range(60)]


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.merge(ENTRIES)
        yield journal


def test_usage_adds_up_what_each_stage_had(journal):
    found = usage(journal)
    assert [part.stage for part in found] == ["reason", "score"]
    for part in found:
        mine = [entry for entry in ENTRIES if entry.stage == part.stage]
        truncated = sum(entry.completion.outcome == "truncated" for entry in mine)
        costs = [entry.cost_usd for entry in mine if entry.cost_usd is not None]
        assert (part.endpoint, part.model, part.version, part.answers) == ("http://x/v1", "m-1", "", 30)
        assert part.outcomes == {"ok": 30 - truncated, "truncated": truncated}
        assert part.prompt_tokens == sum(entry.completion.prompt_tokens for entry in mine)
        assert part.completion_tokens == 300
        assert part.cost_usd == sum(costs) and part.unpriced == 30 - len(costs)
        assert part.latency_s == pytest.approx(sum(entry.completion.latency_s for entry in mine) / 30)
        assert (part.first, part.last) == (mine[0].created_at, mine[-1].created_at)


def test_usage_by_prompt_version(journal):
    found = [(part.stage, part.version, part.answers) for part in usage(journal, by_version=True)]
    assert found == [("reason", "aa11", 15), ("reason", "ab22", 15), ("score", "aa11", 15), ("score", "ab22", 15)]


def test_answers_without_a_price_have_no_cost(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        assert usage(journal) == []
        journal.put(entry(3))
        (part,) = usage(journal)
        assert part.cost_usd is None and part.unpriced == 1


@pytest.mark.parametrize(
    ("selection", "goes"),
    [
        (Selection(stages=("score",)), lambda e: e.stage == "score"),
        (Selection(stages=("score", "reason")), lambda e: True),
        (Selection(versions=("aa",)), lambda e: e.version == "aa11"),
        (Selection(versions=("a",)), lambda e: True),
        (Selection(versions=("1", "ab22")), lambda e: e.version == "ab22"),
        (Selection(outcomes=("truncated", "refused")), lambda e: e.completion.outcome == "truncated"),
        (Selection(before=7.0), lambda e: e.created_at < 7.0),
        (
            Selection(stages=("score",), outcomes=("truncated",), before=40.0),
            lambda e: e.stage == "score" and e.completion.outcome == "truncated" and e.created_at < 40.0,
        ),
        (Selection(stages=("score' OR '1' = '1",)), lambda e: False),
    ],
)
def test_prune_removes_what_meets_all_conditions_and_nothing_else(journal, selection, goes):
    going = {entry.key for entry in ENTRIES if goes(entry)}
    assert sum(part.answers for part in usage(journal, selection)) == len(going)
    assert prune(journal, selection) == len(going)
    assert {entry.key for entry in ENTRIES if entry.key not in journal} == going


def test_prune_gives_the_space_back(journal):
    before = journal.size()
    prune(journal, Selection(stages=("score",)))
    assert journal.size() < 0.6 * before


def test_prune_without_a_condition_removes_nothing(journal):
    with pytest.raises(StarError, match="has no condition"):
        prune(journal, Selection())
    assert len(journal) == 60
