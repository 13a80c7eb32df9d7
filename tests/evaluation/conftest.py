import pytest

from small_benchmarks import write_benchmarks
from star_hf.evaluation.types import RESPONSES
from star_hf.schema import as_dataset


@pytest.fixture
def answers():
    """Makes rows of `RESPONSES`: one for each text, with a thought where one is given."""

    def make(*texts, reasoning=None, failure=None, benchmark="strongreject"):
        return as_dataset(
            (
                {
                    "benchmark": benchmark,
                    "item_id": f"item-{number}",
                    "sample": 0,
                    "prompt": f"Please: question {number}?",
                    "question": f"question {number}?",
                    "answer": text,
                    "reasoning": reasoning,
                    "failure": failure if text is None else None,
                    "tokens": 10,
                }
                for number, text in enumerate(texts)
            ),
            RESPONSES,
        )

    return make


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Small local copies of benchmarks, as `--data-dir` takes them."""
    return write_benchmarks(tmp_path_factory.mktemp("data"))
