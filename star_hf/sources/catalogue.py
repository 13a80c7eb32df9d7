"""The catalogue of sources, read from the cards in `datasets_scripts/raw/<name>/README.md`.

A card has the address, licence and gate of a source, in the format of `load_dataset`, and facts for this project under
the key `star_hf`. The code that turns a row into a question is in `star_hf.sources.readers`.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import DatasetCard

from ..errors import SourceError
from ..utils.paths import project_folder


__all__ = ["Role", "Source", "catalogue"]

Role = Literal["train", "held_out", "evaluation"]

_REVISION = re.compile(r"@([^/]+)/|/([0-9a-f]{40})/")
_REPOSITORY = re.compile(r"(?:hf://datasets|https://raw\.githubusercontent\.com)/([^/@]+/[^/@]+)")


@dataclass(frozen=True)
class Source:
    """One source of the catalogue.

    Attributes:
        folder (`Path`): The card's folder, which has the source's name: `load_dataset(folder)` reads the source.
        role (`str`): `"train"`, `"held_out"` for a benchmark that builds are decontaminated against, or `"evaluation"`
            for one that STAR-1 only evaluates on: an audit searches for both.
        order (`int`): Position in the catalogue; earlier sources have priority.
        ngram (`int` or `None`): Length of the n-grams of the within-source step, in words; `None` for a benchmark.
        rows (`int` or `None`): Number of questions that STAR-1 uses, if it is known exactly.
        license (`str`): Licence on the card; `"unknown"` if there is none.
        gated (`str`): `"none"`, `"auto"` (accept the conditions) or `"manual"` (the authors grant access).
        homepage (`str`): Page of the source, where users accept conditions.
        options (`dict`): Arguments of the dataset builder, such as `sep`.
        fields (`tuple[str, ...]`): Columns with a benchmark's texts, in the order in which its reader returns them; by
            default the first of `columns`. Empty for a training source.
        columns (`tuple[str, ...]`): The columns to read, that of the question first, with alternative names; empty
            for all.
        local (`tuple[str, ...]`): Files (or patterns) of a local copy, relative to `<sources_dir>/<name>`.
        subset (`dict[str, int]` or `None`): `shuffle_seed` and `rows`, if the benchmark is a sample.
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
        """Commit of the files, or branch if the commit is unknown."""
        match = _REVISION.search(self.files[0])
        return (match.group(1) or match.group(2)) if match else "unknown"

    @property
    def repository(self) -> str:
        """The repository of the files on the Hub or GitHub, as `owner/name`."""
        match = _REPOSITORY.match(self.files[0])
        return match.group(1) if match else self.homepage


def catalogue() -> dict[str, Source]:
    """All sources by name, in catalogue order: the 18 training sources of the paper, the held-out sets, and reasoning
    benchmarks for evaluation only."""
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
            fields=() if ours["role"] == "train" else tuple(ours.get("fields", ours["columns"][:1])),
            local=tuple(ours["local"]),
            subset=ours.get("subset"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"The card {card} cannot be read: {type(error).__name__}: {error}.",
            "Compare it with the other cards in that folder: `configs` with one entry, `license`, and `star_hf`.",
        ) from error
