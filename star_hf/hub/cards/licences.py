"""What the sources' licences allow for a data set that is made of them. Observations, not legal advice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...sources.catalogue import catalogue


__all__ = ["Origin", "Terms", "terms_of"]

OPEN = ("apache-2.0", "cc-by-2.0", "cc-by-4.0", "cc0-1.0", "mit", "odc-by")
"""Licences that only ask for attribution, or for nothing."""


@dataclass(frozen=True)
class Origin:
    """One source of a data set.

    Attributes:
        name (`str`): As in the column `source`.
        rows (`int`): Rows of the data set that are from it.
        license (`str`): Licence as the catalogue states it; `"not stated"` for questions of the builder's own.
        homepage (`str` or `None`), revision (`str` or `None`): Where it is, and what was read; `None` for one's own.
        gated (`bool`): Whether its owners ask for conditions to be accepted.
    """

    name: str
    rows: int
    license: str
    homepage: str | None
    revision: str | None
    gated: bool


@dataclass(frozen=True)
class Terms:
    """The sources and what follows from them.

    Attributes:
        origins (`tuple[Origin, ...]`): The largest first.
    """

    origins: tuple[Origin, ...]

    def of(self, *parts: str) -> list[Origin]:
        """Sources whose licence has one of these parts, such as `"nc"`."""
        return [origin for origin in self.origins if set(origin.license.split("-")) & set(parts)]

    @property
    def license(self) -> str:
        """The data set's licence as the Hub knows it: the sources' own where they agree on an open one."""
        found = {origin.license for origin in self.origins}
        return found.pop() if len(found) == 1 and found <= set(OPEN) else "other"

    @property
    def restrictions(self) -> list[tuple[str, list[Origin]]]:
        """What one may not do, as a sentence, and because of which sources."""
        own = [origin for origin in self.origins if origin.license == "other"]
        found = [
            ("Not for commercial use", self.of("nc")),
            ("Whatever is made of these rows must be shared under the same licence", self.of("sa")),
            ("An agreement of their own restricts redistribution: leave these rows out of a public release", own),
            (
                "Gated: their owners ask for conditions to be accepted first",
                [origin for origin in self.origins if origin.gated and origin not in own],
            ),
            (
                "No licence is known: ask before you pass these rows on",
                [origin for origin in self.origins if origin.license in ("unknown", "not stated")],
            ),
            ("Under the GPL, a licence made for software", [o for o in self.origins if o.license.startswith("gpl")]),
        ]
        return [(sentence, origins) for sentence, origins in found if origins]


def terms_of(rows: Mapping[str, int] | Iterable[tuple[str, int]]) -> Terms:
    """Look up the licences of sources by their name in the column `source`.

    Args:
        rows (`Mapping[str, int]`): Rows of each source.
    """
    known = catalogue()
    origins = []
    for name, count in sorted(dict(rows).items(), key=lambda item: (-item[1], item[0])):
        source = known.get(name)
        if source is None:
            origins.append(Origin(name, count, "not stated", None, None, False))
        else:
            gated = source.gated != "none"
            origins.append(Origin(name, count, source.license, source.homepage, source.revision, gated))
    return Terms(tuple(origins))
