import pytest

from model_server import ModelServer
from small_benchmarks import answer, tiny_model
from star_hf.cli.tables import layout
from star_hf.cli.tables.run import show_before_after
from star_hf.demo.before_after import before_after, read_questions, refusals
from star_hf.evaluation.generation.models import Served
from star_hf.llm import Endpoint, Journal
from star_hf.utils.paths import project_folder


QUESTIONS = project_folder("recipes") / "eval" / "demo_questions.jsonl"


def test_refusals_and_thoughts_are_counted_by_kind_and_an_endless_thought_is_no_answer(journal):
    def rule(body, before):
        asked = body["messages"][-1]["content"]
        if "bicycle" in asked:
            return "<think>\nFor ever"
        return answer({"messages": [{"content": "a ladder"}]}) if "exam" in asked else "Sure."

    with ModelServer(rule) as server:
        model = Served(Endpoint(provider="vllm", base_url=server.url, model="m"), "a")
        found = refusals(model, read_questions(QUESTIONS), journal, progress=False)
    assert (found.harmful.value, found.harmful.n) == (1 / 5, 5)
    assert (found.harmless.value, found.harmless.n, found.failed) == (0.0, 6, 1)
    assert found.thinks.value == 2 / 12


@pytest.mark.slow
def test_two_models_are_asked_once_and_stand_side_by_side(tiny, tmp_path, monkeypatch, capsys):
    tuned = tiny_model(tmp_path / "tuned", seed=1)
    compared = before_after(tiny, tuned, tmp_path, max_tokens=8, progress=False)
    with Journal(tmp_path / "evaluation.sqlite") as journal:
        assert len(journal) == 24
    assert before_after(tiny, tuned, tmp_path, max_tokens=8, progress=False) == compared
    with Journal(tmp_path / "evaluation.sqlite") as journal:
        assert len(journal) == 24
    monkeypatch.setattr(layout.console, "width", 120)
    show_before_after(*compared)
    shown = capsys.readouterr().out
    for words in ("before", "after", "refused mildly harmful questions", "0.0 (0.0 to ", "star-hf evaluate"):
        assert words in shown
