"""Settings that must stand before any Hugging Face library is imported, and the fixtures that all tests share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub import WRITER, Hub


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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real source data that lies beside the checkout; tests that need it are skipped without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("../shared/data is not here")
    return folder
