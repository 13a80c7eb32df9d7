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
