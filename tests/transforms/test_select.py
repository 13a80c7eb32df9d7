import json
import logging
import random
from collections import Counter
from fractions import Fraction

import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from star_hf.errors import ConfigError, StarError
from star_hf.schema import SCORE_CRITERIA, SCORED, as_dataset
from star_hf.transforms.select import balance, select


def make_row(i: int, source: str = "a", category: tuple[str, ...] = ("x",), scores=(10, 10, 10)) -> dict:
    score = dict(zip(SCORE_CRITERIA, scores, strict=True))
    return {"id": f"{i:04d}", "question": f"q{i}", "source": source, "category": list(category), "score": score}


def make_rows(cells: list[tuple[str, tuple[str, ...]]]) -> Dataset:
    return as_dataset([make_row(i, source, category) for i, (source, category) in enumerate(cells)], SCORED)


def naive(rows: list[dict], size: int) -> list[str]:
    """The paper's procedure, word for word."""
    rows = list(rows)
    while len(rows) > size:
        sources = Counter(row["source"] for row in rows)
        labels = Counter(label for row in rows for label in row["category"])
        products = [
            Fraction(sources[row["source"]], len(rows))
            * sum(Fraction(labels[label], labels.total()) for label in row["category"])
            for row in rows
        ]
        del rows[products.index(max(products))]
    return [row["id"] for row in rows]


cells = st.tuples(
    st.sampled_from("abc"), st.lists(st.sampled_from("vwxyz"), min_size=1, max_size=3, unique=True).map(tuple)
)
corpora = st.lists(cells, min_size=1, max_size=40)


@given(corpora, st.data())
def test_paper_equals_the_naive_definition(corpus, data):
    rows = make_rows(corpus)
    size = data.draw(st.integers(0, len(corpus)))
    assert select(rows, size=size, strategy="paper").rows["id"][:] == naive(list(rows), size)


def test_paper_drops_the_first_of_tied_signatures():
    rows = make_rows([("a", ("x",)), ("b", ("y",)), ("b", ("y",)), ("a", ("x",))])
    assert select(rows, size=3, strategy="paper").rows["id"][:] == ["0001", "0002", "0003"]


@given(corpora, st.integers(0, 45), st.sampled_from(["coverage", "paper", "random", "top-k", "medium-score"]))
def test_no_row_vanishes(corpus, size, strategy):
    rows = as_dataset([make_row(i, *cell, scores=(10, 10, i % 11)) for i, cell in enumerate(corpus)], SCORED)
    outcome = select(rows, size=size, strategy=strategy)
    assert len(outcome.rows) <= size
    assert sorted(outcome.rows["id"][:] + outcome.removed["id"][:]) == rows["id"][:]
    assert outcome.rows["id"][:] == sorted(outcome.rows["id"])
    assert outcome.rows.features == rows.features


@given(corpora, st.randoms(), st.sampled_from(["coverage", "random", "top-k", "medium-score"]))
def test_all_but_paper_ignore_input_order(corpus, shuffler, strategy):
    records = [
        make_row(i, *cell, scores=(10, 10, 10 if strategy == "coverage" else i % 9)) for i, cell in enumerate(corpus)
    ]
    expected = set(select(as_dataset(records, SCORED), size=len(corpus) // 2, strategy=strategy).rows["id"])
    shuffler.shuffle(records)
    assert set(select(as_dataset(records, SCORED), size=len(corpus) // 2, strategy=strategy).rows["id"]) == expected


@pytest.mark.parametrize("strategy", ["coverage", "paper"])
def test_only_full_marks_pass_and_the_scores_are_told(strategy, caplog):
    records = [make_row(0), make_row(1, scores=(10, 9, 10)), make_row(2, scores=(10, None, 10)), make_row(3)]
    records[3]["score"] = None
    with caplog.at_level(logging.WARNING):
        outcome = select(as_dataset(records, SCORED), size=3, strategy=strategy)
    assert outcome.rows["id"][:] == ["0000"]
    assert outcome.removed["reason"][:] == ["below_full_marks"] * 3
    assert json.loads(outcome.removed["detail"][1])[SCORE_CRITERIA[1]] is None
    assert "fewer than the 3" in caplog.text


def test_coverage_is_even_where_supply_allows_and_takes_all_of_what_is_scarce():
    rows = make_rows([("a", ("x",))] * 60 + [("b", ("x",))] * 20 + [("a", ("y",))] * 30 + [("b", ("z",))] * 4)
    kept = select(rows, size=44).rows
    assert balance(kept).labels == {"x": 20, "y": 20, "z": 4}
    assert Counter(row["source"] for row in kept if row["category"] == ["x"]) == {"a": 10, "b": 10}


def test_coverage_does_not_buy_a_rare_category_with_a_common_one():
    rows = make_rows([("a", ("x",))] * 20 + [("a", ("x", "y"))] * 10 + [("a", ("y",))] * 10)
    assert balance(select(rows, size=20).rows).spread < 1.2


def test_coverage_takes_no_second_label_of_a_category_that_is_full():
    rows = make_rows([("a", ("x", "y")), ("a", ("x",)), ("b", ("y",))])
    assert select(rows, size=2).rows["id"][:] == ["0001", "0002"]


def test_random_depends_on_the_seed():
    rows = make_rows([("a", ("x",))] * 50)
    first, again, other = (select(rows, size=10, strategy="random", seed=s).rows["id"][:] for s in (1, 1, 2))
    assert first == again != other


def test_top_k_needs_no_full_marks_and_breaks_ties_by_id():
    scores = [(1, 1, 1), (9, 9, 9), (10, 10, None), (9, 9, 9), (9, 9, 8)]
    rows = as_dataset([make_row(i, scores=s) for i, s in enumerate(scores)], SCORED)
    assert select(rows, size=1, strategy="top-k").rows["id"][:] == ["0001"]
    assert select(rows, size=3, strategy="top-k").rows["id"][:] == ["0001", "0003", "0004"]


def test_medium_score_takes_the_middle_of_what_has_no_full_marks():
    scores = [(10, 10, 10), (0, 0, 0), (5, 5, 5), (5, 5, 6), (9, 10, 10), (5, 5, None)]
    rows = as_dataset([make_row(i, scores=s) for i, s in enumerate(scores)], SCORED)
    assert select(rows, size=2, strategy="medium-score").rows["id"][:] == ["0002", "0003"]


def test_what_cannot_be_selected_is_refused():
    rows = make_rows([("a", ("x",)), ("a", ())])
    with pytest.raises(StarError, match="0001"):
        select(rows, size=1)
    with pytest.raises(ConfigError, match="strategy"):
        select(rows, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="size"):
        select(rows, size=-1)


def test_balance_of_published_counts():
    rows = make_rows([("a", ("x", "y"))] * 2 + [("b", ("x",))] * 4)
    measured = balance(rows)
    assert (measured.labels, measured.sources) == ({"x": 6, "y": 2}, {"b": 4, "a": 2})
    assert measured.spread == 3
    assert measured.entropy == pytest.approx(0.8112781)
    assert balance(make_rows([])).spread == 1


def test_coverage_spreads_star_1_less_than_paper(shared_data):
    published = json.loads((shared_data / "raw" / "STAR-1" / "STAR-1.json").read_text(encoding="utf-8"))
    rows = as_dataset(published, SCORED)
    assert balance(rows).spread == pytest.approx(381 / 52)
    paper, coverage = (balance(select(rows, size=300, strategy=s).rows) for s in ("paper", "coverage"))
    assert coverage.spread < 1.3 < paper.spread
    assert coverage.entropy > paper.entropy
    sample = rows.select(random.Random(0).sample(range(1000), 250))
    assert select(sample, size=50, strategy="paper").rows["id"][:] == naive(list(sample), 50)


@pytest.mark.parametrize("order", [range(6), reversed(range(6)), (3, 0, 5, 1, 4, 2)])
def test_coverage_breaks_ties_inside_a_cell_by_the_smallest_id(order):
    rows = as_dataset([make_row(i) for i in order], SCORED)
    assert sorted(select(rows, size=2).rows["id"]) == ["0000", "0001"]


def test_coverage_breaks_ties_between_cells_by_category_then_source():
    rows = make_rows([("b", ("y",)), ("b", ("x",)), ("a", ("y",)), ("a", ("x",))])
    chosen = [(row["source"], row["category"]) for row in select(rows, size=1).rows]
    assert chosen == [("a", ["x"])]
