"""What training data must be kept clear of: the benchmarks of the catalogue and the user's own, as texts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SourceError
from .catalogue import Role, Source, catalogue
from .readers import Drop, Reader, readers_of
from .reading import MissingSourceError, read_own_texts, read_rows, read_source, read_takes


__all__ = ["HeldOutSet", "load_held_out_sets", "own_held_out_set", "read_held_out_set"]


@dataclass(frozen=True)
class HeldOutSet:
    """The texts of a benchmark, and where they are from. The texts of a gated benchmark are not to be shown to others.

    Attributes:
        place (`str`): The home page, or the user's own file.
        revision (`str`): Commit or branch that the catalogue reads; `"local copy"` where a copy was read instead.
        texts (`tuple[str, ...]`): The texts to keep clear of, in the benchmark's order.
        fields (`tuple[str, ...]`): The column that each text is from, such as `"adversarial"` and `"vanilla"`.
    """

    name: str
    role: Role
    place: str
    revision: str
    license: str
    gated: str
    texts: tuple[str, ...] = field(repr=False)
    fields: tuple[str, ...] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the texts, which are counted by field."""
        return {
            "role": self.role,
            "place": self.place,
            "revision": self.revision,
            "license": self.license,
            "gated": self.gated,
            "texts": dict(Counter(self.fields)),
        }


def read_held_out_set(
    source: Source, reader: Reader, sources_dir: Path | None = None, file: Path | None = None
) -> HeldOutSet:
    """Read a benchmark of the catalogue: from the Hub, from a local copy in `sources_dir`, or from a single file.

    Raises:
        [`MissingSourceError`]: If the files are missing or access to them is refused.
        [`SourceError`]: If they cannot be read as the card says.
    """
    local = sources_dir is not None or file is not None
    rows = read_source(source, sources_dir) if file is None else read_rows(file, source.columns, source.options)
    takes = (take for take in read_takes(source, reader, rows) if not isinstance(take, Drop))
    lists = (take if isinstance(take, list) else [take] for take in takes)
    items = [(text or "", name) for take in lists for text, name in zip(take, source.fields, strict=False)]
    return HeldOutSet(
        name=source.name,
        role=source.role,
        place=source.homepage,
        revision="local copy" if local else source.revision,
        license=source.license,
        gated=source.gated,
        texts=tuple(text for text, _ in items),
        fields=tuple(name for _, name in items),
    )


def own_held_out_set(name: str, path: Path) -> HeldOutSet:
    """Read a benchmark of the user's own: a `.txt` file with one text per line, or a file with a column `question`.

    Raises:
        [`SourceError`]: If the file is missing, cannot be read, or has no texts.
    """
    items = [(text, "question" if "question" in row else "text") for row, text in read_own_texts(path)]
    texts, columns = zip(*items, strict=True)
    if not any(map(str.strip, texts)):
        raise SourceError(f"{path} has no texts.", "Name a file with one text per row.")
    return HeldOutSet(name, "held_out", str(path), "local copy", "unknown", "none", texts, columns)


def load_held_out_sets(
    names: Sequence[str] | None = None, *, sources_dir: Path | None = None, files: Mapping[str, Path] | None = None
) -> tuple[list[HeldOutSet], dict[str, str]]:
    """Read every benchmark that data must be kept clear of: held-out sets and evaluation sets, safety and reasoning.

    Args:
        names (`Sequence[str]`, *optional*): The catalogue's benchmarks to read; all by default, none for `[]`.
        sources_dir (`Path`, *optional*): Folder of local copies, `<sources_dir>/<name>/<file>`.
        files (`Mapping[str, Path]`, *optional*): A file for a benchmark: one of the catalogue's, read in its own form,
            or the user's own, read by [`own_held_out_set`].

    Returns:
        The benchmarks, and for each one that is missing the reason and what to do. A benchmark without a single text
        counts as missing.
    """
    readers, files = readers_of("recommended"), dict(files or {})
    known = {name: source for name, source in catalogue().items() if source.role != "train"}
    if unknown := [name for name in names or () if name not in known]:
        raise SourceError(f"Unknown benchmarks: {', '.join(unknown)}.", f"Known: {', '.join(known)}.")
    found, missing = [], {}
    for name, source in known.items():
        if names is not None and name not in names and name not in files:
            continue
        try:
            benchmark = read_held_out_set(source, readers[name], sources_dir, files.get(name))
        except MissingSourceError as error:
            missing[name] = str(error)
            continue
        if any(map(str.strip, benchmark.texts)):
            found.append(benchmark)
        else:
            missing[name] = f"{benchmark.place}: it has no texts."
    found += [own_held_out_set(name, path) for name, path in files.items() if name not in known]
    return found, missing
