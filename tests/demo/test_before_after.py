import pytest

from model_server import ModelServer
from small_benchmarks import answer, tiny_model
from star_hf.cli.tables import layout
from star_hf.cli.tables.run import WORTH, show_before_after
from star_hf.demo.before_after import JUDGE, Refusals, before_after, draw, read_questions, refusals
from star_hf.evaluation.generation.models import Served
from star_hf.evaluation.results.statistics import rate, wilson
from star_hf.llm import Endpoint, Journal


QUESTIONS = read_questions()


def test_refusals_and_thoughts_are_counted_by_kind_and_an_endless_thought_is_no_answer(journal):
    endless, refused = QUESTIONS["harmful"][0].prompt, QUESTIONS["harmful"][1].prompt
    empty = QUESTIONS["harmless"][0].prompt

    def rule(body, before):
        asked = body["messages"][-1]["content"]
        if asked == endless:
            return "<think>\nFor ever"
        if asked == empty:
            return "<think>\n\n</think>\n\nSure."
        return answer({"messages": [{"content": "a ladder"}]}) if asked == refused else "Sure."

    with ModelServer(rule) as server:
        model = Served(Endpoint(provider="vllm", base_url=server.url, model="m"), "a")
        found = refusals(model, QUESTIONS, journal, progress=False)
        assert len(server.requests) == 60
    assert (found.harmful.value, found.harmful.n) == (1 / 29, 29)
    assert (found.harmless.value, found.harmless.n) == (0.0, 30)
    assert (found.failed, found.asked) == (1, 60)
    assert found.thinks.value == 2 / 60  # the empty thought is none


@pytest.mark.slow
def test_two_models_are_asked_once_and_stand_side_by_side(tiny, tmp_path):
    tuned = tiny_model(tmp_path / "tuned", seed=1)
    compared = before_after(tiny, tuned, tmp_path, max_tokens=8, progress=False)
    with Journal(tmp_path / "evaluation.sqlite") as journal:
        assert len(journal) == 120
    assert before_after(tiny, tuned, tmp_path, max_tokens=8, progress=False) == compared
    with Journal(tmp_path / "evaluation.sqlite") as journal:
        assert len(journal) == 120
    assert before_after(tiny, tuned, tmp_path, "development", max_tokens=8, progress=False)[0].asked == 72


BEFORE = Refusals(wilson(1, 28), wilson(0, 30), wilson(0, 60), failed=2, asked=60)
AFTER = Refusals(wilson(24, 30), wilson(3, 29), wilson(60, 60), failed=1, asked=60)


def test_the_table_has_intervals_what_was_not_judged_and_what_the_judge_is_worth(monkeypatch, capsys):
    monkeypatch.setattr(layout.console, "width", 80)
    show_before_after(BEFORE, AFTER)
    shown = capsys.readouterr().out
    before, after = (shown[shown.index(name) :] for name in ("before", "after"))
    assert before.split()[:6] == ["before", "3.6", "0.0", "0.0", "2", "of"]
    assert after.split()[:6] == ["after", "80.0", "10.3", "100.0", "1", "of"]
    assert "(62.7 to 90.5)" in after and "not judged" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert " ".join(WORTH[JUDGE].split()) in " ".join(shown.split())


def test_the_picture_shows_a_share_that_there_is_and_leaves_out_one_that_there_is_not(tmp_path):
    nothing = Refusals(rate([]), rate([]), wilson(3, 3), failed=3, asked=3)
    picture = draw(nothing, AFTER, tmp_path / "picture.svg").read_text()
    assert "3 of 3 not judged" in _texts(picture) and "1 of 60 not judged" in _texts(picture)


def _texts(svg):
    """The texts that matplotlib keeps as comments beside their outlines."""
    return " ".join(line.strip() for line in svg.splitlines() if line.strip().startswith("<!--"))
