"""Settings that must be made before any Hugging Face library is imported, and the fixtures that all tests share."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from hub import WRITER, Hub


if TYPE_CHECKING:
    from star_hf.llm import Journal


HUB = Hub()

HOME = tempfile.mkdtemp(prefix="star_hf-tests-")
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST_PROCESSES = 4

# huggingface_hub, datasets and tokenizers read these when they are imported.
os.environ.update(
    HF_ENDPOINT=HUB.url,
    HF_HOME=HOME,
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_XET="1",
    TOKENIZERS_PARALLELISM="false",
)
os.environ.pop("HF_TOKEN", None)
# rich reads the width when a module of the command line is imported; each test gives its own.
os.environ.pop("COLUMNS", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads of several processes that compete for the same cores take several times as long.
    share = max(1, CORES // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(share))

settings.register_profile("ci", deadline=None, print_blob=True, max_examples=25)
settings.register_profile("long", settings.get_profile("ci"), max_examples=200)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the long forms too: more kills, more random examples")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None but this process for a test that is named, else one more than cores: a third of the time is waiting."""
    return 0 if any("::" in argument for argument in config.args) else min(CORES + 1, MOST_PROCESSES)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("long" if config.getoption("--long") else "ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests marked `long` unless they are asked for."""
    if not config.getoption("--long"):
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("long")]


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)


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
