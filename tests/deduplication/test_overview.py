"""The table and the picture of a deduplication."""

import numpy as np
import pandas as pd
import pytest

from star_hf.deduplication.overview import _largest, draw_deduplication, funnel, overlap
from star_hf.errors import ConfigError
from star_hf.schema import COLLECTED, as_dataset
from star_hf.transforms.deduplicate import deduplicate
from star_hf.utils.text import row_id


def collected(source, *texts):
    return [{"id": row_id(text), "question": text, "source": source} for text in texts]


@pytest.fixture
def result():
    rows = collected("a", "How do locks work?", "how do  locks work?", "Who made the first door of this house?")
    rows += collected("b", "How do locks work?", "Who made the first door of that house?", "What is $1 worth?")
    held_out = as_dataset(collected("bench", "What is $1  worth?"), COLLECTED)
    return deduplicate(
        as_dataset(rows, COLLECTED), held_out, tfidf_threshold=0.4, embedding_threshold=None, progress=False
    )


def test_the_funnel_adds_up_and_the_overlap_tells_who_left_for_whom(result):
    steps = funnel(result)
    assert steps["left"].tolist() == [6, 5, 3, 2]
    assert steps["reason"].tolist() == ["given", "exact_contamination", "exact_duplicate", "tfidf_duplicate"]
    counts = overlap(result)
    assert counts.loc["b", "bench"] == 1
    assert counts.to_numpy().sum() == len(result.removed) == 4


def test_rows_that_left_by_their_embedding_are_in_the_funnel_too():
    class Same:
        identity = "same"

        def __call__(self, texts):
            return np.ones((len(texts), 1), np.float32)

    rows = as_dataset(collected("a", "What is a lock?", "Where do birds sleep?", "what is a  LOCK?"), COLLECTED)
    result = deduplicate(rows, as_dataset([], COLLECTED), encoder=Same(), progress=False)
    steps = funnel(result)
    assert steps["reason"].tolist() == ["given", "exact_duplicate", "embedding_duplicate"]
    assert steps["left"].tolist() == [3, 2, 1] and len(result.kept) == 1


def test_the_sources_that_do_not_fit_the_picture_are_summed():
    names = [f"s{number:02d}" for number in range(20)]
    cells = np.ones((20, 20), int) + np.diag(range(20))
    shown = _largest(pd.DataFrame(cells, index=names, columns=names))
    assert list(shown.index) == list(shown.columns) == ["others", *names[6:]]
    assert shown.to_numpy().sum() == cells.sum() and shown.loc["others", "others"] == cells[:6, :6].sum()
    assert _largest(shown).equals(shown), "one more than fit are shown by name"


@pytest.mark.parametrize("name", ["picture.png", "new/picture.svg"])
def test_the_picture_is_drawn_and_holds_no_text_of_a_row(result, tmp_path, name):
    drawn = draw_deduplication(result, tmp_path / name).read_bytes()
    assert len(drawn) > 5_000
    assert b"locks" not in drawn


def test_where_nothing_left_there_is_a_picture_all_the_same(tmp_path):
    kept = as_dataset(collected("a", "What is a lock?"), COLLECTED)
    result = deduplicate(kept, as_dataset([], COLLECTED), embedding_threshold=None, progress=False)
    assert funnel(result)["left"].tolist() == [1]
    draw_deduplication(result, tmp_path / "picture.png")


def test_another_kind_of_file_is_refused(result, tmp_path):
    with pytest.raises(ConfigError, match="Cannot draw"):
        draw_deduplication(result, tmp_path / "picture.docx")
