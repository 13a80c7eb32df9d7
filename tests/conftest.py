"""Settings that must stand before any Hugging Face library is imported, and the fixtures that all tests share."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hub import WRITER, Hub


if TYPE_CHECKING:
    from star_hf.llm import Journal


HUB = Hub()

# huggingface_hub, datasets and tokenizers read these when they are imported.
os.environ.update(
    HF_ENDPOINT=HUB.url,
    HF_HOME=tempfile.mkdtemp(prefix="star_hf-tests-"),
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.pop("HF_TOKEN", None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The loopback Hub, empty, with a token that may write in the environment."""
    HUB.clear()
    monkeypatch.setenv("HF_TOKEN", WRITER)
    yield HUB
    HUB.clear()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator["Journal"]:
    """An empty journal, `tmp_path / "journal.sqlite"`."""
    from star_hf.llm import Journal

    with Journal(tmp_path / "journal.sqlite") as journal:
        yield journal


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random model that answers noise."""
    from small_benchmarks import tiny_model

    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen2 of two layers with R1's template."""
    import standins

    folder = tmp_path_factory.mktemp("small-r1")
    tokenizer = standins.small_tokenizer("r1")
    tokenizer.save_pretrained(folder)
    standins.small_model(tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of 32 mild rows as `train.jsonl`."""
    import standins

    folder = tmp_path_factory.mktemp("small-data")
    (folder / "train.jsonl").write_text("\n".join(json.dumps(row) for row in standins.rows(32)) + "\n")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real source data that lies beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    return folder
