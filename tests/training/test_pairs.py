"""Pairs for training on preferences: which answers of a question are set beside each other, and when none can be."""

import random

import pytest
from datasets import Dataset

from star_hf.errors import TrainingError
from star_hf.training.pairs import PAIRS, preference_pairs


def answer(question, text, *marks):
    return {"question": question, "response": text, "score": {f"criterion {n}": mark for n, mark in enumerate(marks)}}


ROWS = [
    answer("Where is the sieve?", "good", 10, 10, 10),
    answer("Where is the ladder?", "only one", 10, 10, 10),
    answer("where  is the SIEVE?", "bad", 10, 7, 10),
    answer("Where is the sieve?", "worse", 2, 3, 10),
    answer("Where is the sieve?", "middling", 10, 9, 10),
    answer("Where is the sieve?", "not marked", 0, None, 0),
    answer("Where is the kettle?", "worst of the kettle", 0, 0, 0),
    answer("Where is the kettle?", "best of the kettle", 10, 10, 10),
]


def pairs(rows, *bounds):
    return [tuple(row.values()) for row in preference_pairs(Dataset.from_list(rows), *bounds)]


def test_the_best_answer_stands_beside_the_worst_of_the_same_question():
    assert pairs(ROWS) == [
        ("Where is the sieve?", "good", "worse"),
        ("Where is the kettle?", "best of the kettle", "worst of the kettle"),
    ]


def test_the_order_of_the_answers_does_not_count():
    shuffled = random.Random(0).sample([*ROWS, answer("Where is the sieve?", "as good", 10, 10, 10)], len(ROWS) + 1)
    assert {pair[1:] for pair in pairs(shuffled)} == {
        ("as good", "worse"),
        ("best of the kettle", "worst of the kettle"),
    }


def test_one_low_mark_is_enough_to_be_rejected_and_to_be_not_preferred():
    rows = [answer("q", "unsafe but true", 3, 10, 10), answer("q", "safe", 9, 10, 10)]
    with pytest.raises(TrainingError, match="of 1 questions, 1 have more than one response"):
        preference_pairs(Dataset.from_list(rows))
    assert pairs(rows, 9, 7) == [("q", "safe", "unsafe but true")]


def test_one_answer_for_each_question_makes_no_pairs_and_the_error_says_what_to_do():
    rows = [answer(f"Where is number {n}?", "text", n % 11, 10, 10) for n in range(20)]
    with pytest.raises(TrainingError, match="of 20 questions, 0 have more than one response") as refused:
        preference_pairs(Dataset.from_list(rows))
    assert "second build of the same questions" in str(refused.value) and "number" not in str(refused.value)


def test_bounds_that_meet_are_refused():
    with pytest.raises(TrainingError, match="a response could be both"):
        preference_pairs(Dataset.from_list(ROWS), 7, 7)


def test_pairs_that_are_there_are_taken_and_other_columns_are_named():
    given = Dataset.from_list([{"rejected": "b", "chosen": "a", "question": "q", "margin": 3}])
    assert preference_pairs(given).features == PAIRS
    with pytest.raises(TrainingError, match="columns question, response: neither pairs nor scored responses"):
        preference_pairs(Dataset.from_list([{"question": "q", "response": "a"}]))
