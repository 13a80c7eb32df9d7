"""The whole loop against a server on loopback and a trainer of ten lines."""

import pytest
from improve_world import ImproveWorld, options

from star_hf.improve.loop import improve


WEAK = {"Keys, doors#rule-1": 4, "Keys, doors#rule-3": 8}


@pytest.fixture
def world(tmp_path):
    return ImproveWorld(tmp_path, WEAK)


def run(world, server, tmp_path, **changes):
    return improve(options(tmp_path / "in", server.url, world, **changes), world.run, progress=False)


def test_rules_that_fail_get_rows_and_a_model_that_follows_them_ships(world, tmp_path):
    with world.server() as server:
        done = run(world, server, tmp_path)
        paid = dict(world.paid)
        again = run(world, server, tmp_path)
        assert dict(world.paid) == paid, "a second call asks nothing"
    assert [each.step.action for each in done.rounds] == ["again", "ship"]
    assert set(done.rounds[1].quotas) == set(WEAK)
    assert done.shipped == str(world.run / "round-1" / "model") == again.shipped
    assert again == done


def test_forecast(world, tmp_path):
    from star_hf.improve.forecast import forecast

    with world.server() as server:
        found = forecast(options(tmp_path / "in", server.url, world), world.run)
        assert not server.requests
    assert [each.name for each in found] == ["base", "round-1", "round-2", "round-3"]
    steps = {stage.step: stage for stage in found[1].stages}
    assert list(steps) == ["draft", "check drafts", "answer", "score", "train", "ask the model", "judge policy"]
    assert steps["answer"].calls == steps["score"].calls == 24
    assert steps["judge policy"].calls == 72 and steps["ask the model"].calls == 72
    assert steps["train"].hours is None and steps["train"].cost_usd is None


def test_the_page_shows_the_rounds_without_texts_of_cases(world, tmp_path):
    from star_hf.improve.page import write_page

    with world.server() as server:
        page = write_page(run(world, server, tmp_path)).read_text("utf-8")
    assert "Ship round-1." in page and "All criteria pass." in page and "Keys, doors#rule-3" in page
    assert not any(turn in page for turn in world.cases), "texts may be harmful"
