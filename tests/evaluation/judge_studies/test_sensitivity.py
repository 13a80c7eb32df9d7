import pytest

from star_hf.evaluation.judge_studies.sensitivity import swaps
from star_hf.evaluation.types import VERDICTS
from star_hf.schema import as_dataset


def verdicts(benchmark, **judges):
    return [
        {
            "benchmark": benchmark,
            "item_id": str(place),
            "sample": 0,
            "judge": judge,
            "part": "answer",
            "value": value,
            "failure": None if value is not None else "unparseable",
            "detail": "",
        }
        for judge, values in judges.items()
        for place, value in enumerate(values)
    ]


def test_rates_are_compared_over_the_same_texts_and_the_widest_spread_is_first():
    rows = [
        *verdicts("jbb", a=[1, 1, 0, 0], b=[1, 1, 0, 0]),
        *verdicts("strongreject", a=[1, 1, 1, 0], b=[1, 0.5, None, 0], c=[0, 0, 0, 0]),
        *verdicts("aime24", judge=[1, 0]),
    ]
    wide, narrow = swaps(as_dataset(rows, VERDICTS))
    assert (wide.benchmark, wide.texts, wide.of) == ("strongreject", 3, 4)
    assert wide.rates == {"a": pytest.approx(2 / 3), "b": 0.5, "c": 0.0} and wide.spread == pytest.approx(2 / 3)
    assert narrow.spread == 0.0


def test_without_a_common_text_there_is_no_rate():
    (swap,) = swaps(as_dataset(verdicts("jbb", a=[1, None], b=[None, 1]), VERDICTS))
    assert swap.rates == {} and swap.spread is None and swap.of == 2


def test_answers_and_thoughts_are_rated_apart():
    thoughts = [{**row, "part": "reasoning"} for row in verdicts("jbb", a=[0, 0], b=[1, 1])]
    found = swaps(as_dataset(verdicts("jbb", a=[1, 1], b=[1, 1]) + thoughts, VERDICTS))
    assert [(swap.part, swap.texts, swap.spread) for swap in found] == [("reasoning", 2, 1.0), ("answer", 2, 0.0)]
