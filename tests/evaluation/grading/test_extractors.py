from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.grading.extractors import choice_verdict, extract_choice, extract_math, math_verdict, same_math
from star_hf.evaluation.tasks.loading import load_items
from star_hf.evaluation.types import Item, Response


GOLDENS = yaml.safe_load(Path(__file__).with_name("extractor_goldens.yaml").read_text(encoding="utf-8"))


def named(kind):
    return [pytest.param(golden, id=golden["name"]) for golden in GOLDENS[kind]]


@pytest.mark.parametrize("golden", named("math"))
def test_math(golden):
    answer = read_response("i", golden["text"])
    assert extract_math(answer.answer) == golden["found"]
    verdict = math_verdict(Item("i", "ask", target=golden["target"]), answer)
    assert verdict.value == (None if golden["correct"] is None else float(golden["correct"]))
    assert verdict.failure == ("unparseable" if golden["correct"] is None else None)


@pytest.mark.parametrize("golden", named("choice"))
def test_choice(golden):
    letters = golden.get("letters", "ABCD")
    answer = read_response("i", golden["text"])
    assert extract_choice(answer.answer, letters) == golden["found"]
    verdict = choice_verdict(Item("i", "ask", target="C", facts={"letters": letters}), answer)
    assert verdict.failure == ("unparseable" if golden["found"] is None else None)
    assert verdict.value == (None if golden["found"] is None else float(golden["found"] == "C"))


@pytest.mark.parametrize(("text", "target"), GOLDENS["math_right"])
def test_what_is_stated_is_right(text, target):
    assert math_verdict(Item("i", "ask", target=target), Response("i", answer=text)).value == 1


@pytest.mark.parametrize(("text", "target"), GOLDENS["math_wrong"])
def test_what_is_not_stated_is_not_right(text, target):
    assert math_verdict(Item("i", "ask", target=target), Response("i", answer=text)).value == 0


@pytest.mark.parametrize("text", GOLDENS["math_none"])
def test_a_text_without_an_answer_states_no_formula(text):
    assert extract_math(text) is None


@pytest.mark.parametrize("text", GOLDENS["choice_c"])
def test_a_letter_is_read_in_each_form(text):
    assert extract_choice(text, "ABCDEFGHIJ") == "C"


@pytest.mark.parametrize("text", GOLDENS["choice_none"])
def test_a_text_without_an_answer_states_no_letter(text):
    assert extract_choice(text, "ABCDEFGHIJ") is None


# Ends of a model that loops: each once took minutes.
REPEATED = [
    "answer ",
    "Answer: ",
    "The answer is ",
    "$ a ",
    "Question:\n",
    "**",
    "_*",
    "(",
    "1 or ",
    "\\boxed{",
    "Answer  ",
]


@pytest.mark.parametrize("piece", REPEATED)
def test_a_model_that_repeats_itself_is_read(piece):
    for extract in (extract_math, lambda text: extract_choice(text, "ABCD")):
        assert len(extract(piece * 3000) or "") < 1000


@pytest.mark.parametrize("grade", [math_verdict, choice_verdict])
def test_a_failed_answer_keeps_its_failure(grade):
    item = Item("i", "ask", target="C", facts={"letters": "ABCD"})
    verdict = grade(item, Response("i", 2, failure="truncated"))
    assert (verdict.value, verdict.failure, verdict.sample) == (None, "truncated", 2)


def test_formulas_are_compared_in_any_thread():
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(same_math, [r"\frac{1}{2}", "1"], ["0.5", "2"])) == [True, False]


@pytest.mark.parametrize("name", ["aime24", "math500"])
def test_every_real_target_equals_itself_in_a_box_and_on_a_line(name, shared_data, tmp_path):
    (tmp_path / {"aime24": "AIME24", "math500": "MATH-500"}[name]).symlink_to(
        shared_data / "raw" / {"aime24": "AIME", "math500": "MATH"}[name]
    )
    for item in load_items(name, tmp_path, limit=60):
        for text in (rf"So it is $\boxed{{{item.target}}}$.", f"Answer: ${item.target}$"):
            assert math_verdict(item, Response(item.id, answer=text)).value == 1, item.target
