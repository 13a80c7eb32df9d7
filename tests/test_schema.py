"""How rows become a `Dataset`, and a `Dataset` rows."""

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from star_hf.schema import as_dataset, each_row


FEATURES = Features({"id": Value("string"), "score": Value("float64"), "tags": List(Value("string"))})
ROWS = [{"id": str(n), "score": n / 2, "tags": ["a"] * (n % 3)} for n in range(7)]


def test_a_column_that_a_row_lacks_is_none():
    rows = as_dataset([{"id": "a"}, {"score": 1, "more": 2}], FEATURES)
    assert rows.features == FEATURES
    assert rows.to_list() == [{"id": "a", "score": None, "tags": None}, {"id": None, "score": 1.0, "tags": None}]


def test_the_result_is_that_of_datasets_own_constructor():
    ours, theirs = as_dataset(ROWS, FEATURES), Dataset.from_list(ROWS, features=FEATURES)
    assert ours.features == theirs.features and ours.to_list() == theirs.to_list()
    assert ours.data.schema.equals(theirs.data.schema, check_metadata=True)


def test_what_features_encode_is_encoded():
    features = Features({"label": ClassLabel(names=["safe", "unsafe"]), "id": Value("string")})
    assert as_dataset([{"label": "unsafe", "id": 7}], features).to_list() == [{"label": 1, "id": "7"}]


@pytest.mark.parametrize("count", [0, 1, 6, 7])
def test_each_row_is_what_iterating_gives(count):
    rows = as_dataset(ROWS[:count], FEATURES)
    assert list(each_row(rows, batch_size=3)) == list(rows) == ROWS[:count]


def test_the_fingerprint_stands_for_the_content():
    one, same = as_dataset(ROWS, FEATURES), as_dataset(ROWS, FEATURES)
    other = as_dataset([*ROWS[:-1], {**ROWS[-1], "score": 99.0}], FEATURES)
    renamed = as_dataset([{"id": "a"}], Features({"id": Value("string")}))
    alike = as_dataset([{"key": "a"}], Features({"key": Value("string")}))
    assert one._fingerprint == same._fingerprint
    assert len({one._fingerprint, other._fingerprint, renamed._fingerprint, alike._fingerprint}) == 4
