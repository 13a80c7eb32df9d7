"""The catalogue of sources, read from the cards in `datasets_scripts/raw/<name>/README.md`.

A card says where a source is and what its licence and gate are, in the form that `load_dataset` reads. What only this
project needs stands under the card's key `star_hf`. How a row becomes a question is code: see
`star_hf.sources.readers`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import DatasetCard

from star_hf.errors import SourceError
from star_hf.utils.paths import project_folder


__all__ = ["Role", "Source", "catalogue"]

Role = Literal["train", "held_out", "evaluation"]

_REVISION = re.compile(r"@([^/]+)/|/([0-9a-f]{40})/")
_REPOSITORY = re.compile(r"(?:hf://datasets|https://raw\.githubusercontent\.com)/([^/@]+/[^/@]+)")


@dataclass(frozen=True)
class Source:
    """One source of the catalogue.

    Attributes:
        name (`str`): Catalogue name, which is the folder's name.
        folder (`Path`): The card's folder: `load_dataset(folder)` reads the source.
        role (`str`): `"train"`, `"held_out"` for a benchmark that a build keeps the data clear of, or `"evaluation"`
            for one that STAR-1 only evaluates on: an audit looks for both.
        order (`int`): Place in the catalogue; earlier sources win over later ones.
        ngram (`int` or `None`): Words in the n-gram of the within-source step; `None` for a benchmark.
        rows (`int` or `None`): Questions that STAR-1 takes from it, where the number is known exactly.
        license (`str`): Licence as the card states it, `"unknown"` where none was seen.
        gated (`str`): `"none"`, `"auto"` (accept the conditions) or `"manual"` (the authors grant access).
        homepage (`str`): Page of the source, where a gate is accepted.
        files (`tuple[str, ...]`): Where the files are, as `https://` or `hf://`.
        options (`dict`): Arguments of the dataset builder, such as `sep`.
        fields (`tuple[str, ...]`): Columns of a benchmark that hold the texts to keep clear of, in the order in which
            the source's function returns them; empty for a training source.
        columns (`tuple[str, ...]`): The only columns that are read, under each name they go by; empty for all.
        local (`tuple[str, ...]`): Files (or patterns) of a local copy, relative to `<sources_dir>/<name>`.
        subset (`dict[str, int]` or `None`): `shuffle_seed` and `rows` of a benchmark that is a sample.
    """

    name: str
    folder: Path
    role: Role
    order: int
    ngram: int | None
    rows: int | None
    license: str
    gated: Literal["none", "auto", "manual"]
    homepage: str
    files: tuple[str, ...]
    options: dict[str, Any]
    columns: tuple[str, ...]
    fields: tuple[str, ...]
    local: tuple[str, ...]
    subset: dict[str, int] | None

    @property
    def revision(self) -> str:
        """Commit (or branch, where no commit is known) that the files are read at."""
        match = _REVISION.search(self.files[0])
        return (match.group(1) or match.group(2)) if match else "unknown"

    @property
    def repository(self) -> str:
        """The repository of the files, as `owner/name`: of the Hub's data sets, or of GitHub."""
        match = _REPOSITORY.match(self.files[0])
        return match.group(1) if match else self.homepage


def catalogue() -> dict[str, Source]:
    """All sources by name, in catalogue order: the 18 training sources of the paper, then the held-out sets, then
    those of reasoning, which are only evaluated on.

    Raises:
        [`SourceError`]: If a card cannot be read or lacks something.
    """
    cards = sorted((project_folder("datasets_scripts") / "raw").glob("*/README.md"))
    sources = sorted(map(_read, cards), key=lambda source: source.order)
    return {source.name: source for source in sources}


def _read(card: Path) -> Source:
    try:
        data = DatasetCard.load(card, ignore_metadata_errors=False).data.to_dict()
        (config,) = data["configs"]
        ours = data["star_hf"]
        files = config["data_files"]
        return Source(
            name=card.parent.name,
            folder=card.parent,
            role=ours["role"],
            order=ours["order"],
            ngram=ours.get("ngram"),
            rows=ours.get("rows"),
            license=data["license"],
            gated=ours["gated"],
            homepage=ours["homepage"],
            files=(files,) if isinstance(files, str) else tuple(files),
            options={key: value for key, value in config.items() if key not in ("config_name", "data_files")},
            columns=tuple(ours["columns"]),
            fields=() if ours["role"] == "train" else tuple(ours["fields"]),
            local=tuple(ours["local"]),
            subset=ours.get("subset"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"The card {card} cannot be read: {type(error).__name__}: {error}.",
            "Write it like the other cards in that folder: `configs` with one entry, `license`, and `star_hf`.",
        ) from error
