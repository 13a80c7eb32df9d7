"""Load data sets by their name in `datasets_scripts/`, from a clone or an installed package."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, SourceError, first_line
from ..utils.paths import project_folder


if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict


__all__ = ["card_folders", "licences_by_name", "load"]

HUB_FILE = re.compile(r"^(hf://datasets/[^/@]+/[^/@]+)(?:@[^/]+)?/")
GITHUB_FILE = re.compile(r"^(https://raw\.githubusercontent\.com/[^/]+/[^/]+)/[^/]+/")


def load(
    name: str,
    config: str | None = None,
    *,
    split: str | None = "train",
    revision: str | None = None,
    sources_dir: str | Path | None = None,
    streaming: bool = False,
    **options: Any,
) -> "Dataset | DatasetDict | IterableDataset | IterableDatasetDict":
    """Load a data set of the catalogue: a product such as `star_1`, or a source such as `GPTFuzz`.

    Args:
        name (`str`): Name of a folder in `datasets_scripts/`; case and punctuation are ignored.
        config (`str`, *optional*): Configuration, if the card has several.
        split (`str`, *optional*, defaults to `"train"`): Split; all of them for `None`.
        revision (`str`, *optional*): Branch, tag or commit to read instead of the pinned one.
        sources_dir (`str` or `Path`, *optional*): Read the local copy `<sources_dir>/<name>/<file>` of a source.
        streaming (`bool`, defaults to `False`): Read rows on demand, without downloading all files first.
        **options: Further arguments of [`~datasets.load_dataset`], such as `token`.

    Raises:
        ConfigError: If there is no such data set, or it has no local copies or revisions.
        SourceError: If the local copy is missing, or the server cannot be reached or refuses.

    Example:

    ```python
    >>> import star_hf

    >>> rows = star_hf.load("star_1")
    >>> first = next(iter(star_hf.load("STAR-1", streaming=True)))
    ```
    """
    from datasets import load_dataset

    folder = _folder(name)
    options = {**options, "split": split, "streaming": streaming}
    own = any(folder.glob("*.jsonl"))
    if revision is None and sources_dir is None and not own:
        with _explained(folder, config):
            return load_dataset(str(folder), config, **options)
    builder, arguments = _builder(folder, config)
    files = arguments.pop("data_files")
    if own and revision is None and sources_dir is None:
        # By the folder's name `datasets` would find the rows that it has cached, even if a file has changed since.
        files = [str(folder / file) for file in ([files] if isinstance(files, str) else files)]
    elif sources_dir is not None:
        files = _local(folder, Path(sources_dir))
    else:
        files = [_at(file, str(revision), name) for file in ([files] if isinstance(files, str) else files)]
    with _explained(folder, config):
        return load_dataset(builder, data_files=files, **{**arguments, **options})


@contextmanager
def _explained(folder: Path, config: str | None) -> Iterator[None]:
    """Turn failures to read a data set in this block into one error that names it."""
    try:
        yield
    except Exception as error:
        from ..utils.network import NETWORK_ERRORS, unreachable

        file, said = _builder(folder, config)[1]["data_files"], first_line(error.__cause__ or error)
        file = file if isinstance(file, str) else file[0]
        if unreachable(error, file):
            raise SourceError(f"{file}: the server cannot be reached ({said}).", "Check the network.") from error
        if isinstance(error, NETWORK_ERRORS):
            raise SourceError(
                f"{file} cannot be read: {said}",
                "Check the revision. If the page of the data set has conditions, accept them and set HF_TOKEN.",
            ) from error
        raise


@lru_cache(maxsize=1)
def card_folders() -> dict[str, Path]:
    """The folder of each data set by name: products first, then the catalogue's sources."""
    root = project_folder("datasets_scripts")
    cards = [*sorted(root.glob("*/README.md")), *sorted(root.glob("raw/*/README.md"))]
    return {card.parent.name: card.parent for card in cards}


def licences_by_name() -> dict[str, str]:
    """The licence on the card of each data set; `"unknown"` if it has none."""
    from huggingface_hub import DatasetCard

    return {
        name: DatasetCard.load(folder / "README.md").data.license or "unknown"
        for name, folder in card_folders().items()
    }


def _folder(name: str) -> Path:
    known = {_plain(folder): path for folder, path in card_folders().items()}
    if (found := known.get(_plain(name))) is not None:
        return found
    close = difflib.get_close_matches(_plain(name), known, n=3)
    names = [known[match].name for match in close] or list(card_folders())
    raise ConfigError(
        f"There is no data set {name!r} in the catalogue.",
        f"Did you mean {', '.join(names)}? Load other data sets of the Hub with datasets.load_dataset.",
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _builder(folder: Path, config: str | None) -> tuple[str, dict[str, Any]]:
    """The dataset builder for a card's files, and its arguments."""
    from huggingface_hub import DatasetCard

    from .reading import BUILDERS

    configs = {entry["config_name"]: entry for entry in DatasetCard.load(folder / "README.md").data["configs"]}
    entry = configs.get(config or "default")
    if entry is None:
        raise ConfigError(f"{folder.name} has no configuration {config!r}.", f"It has {', '.join(configs)}.")
    first = entry["data_files"] if isinstance(entry["data_files"], str) else entry["data_files"][0]
    return BUILDERS[Path(first).suffix], {key: value for key, value in entry.items() if key != "config_name"}


def _at(file: str, revision: str, name: str) -> str:
    """The address of a file at another revision."""
    for pattern, form in ((HUB_FILE, r"\g<1>@{}/"), (GITHUB_FILE, r"\g<1>/{}/")):
        if pattern.match(file):
            return pattern.sub(form.format(revision.replace("\\", "")), file)
    raise ConfigError(f"{name}: {file} has no revisions.", "Leave out `revision`.")


def _local(folder: Path, sources_dir: Path) -> list[str]:
    from .catalogue import catalogue
    from .reading import local_files

    source = catalogue().get(folder.name)
    if source is None:
        problem = f"{folder.name} is a product, not a source: it has no local copy."
        raise ConfigError(problem, "Leave out `sources_dir` to download it.")
    return [str(file) for file in local_files(source, sources_dir, "`sources_dir`")]
