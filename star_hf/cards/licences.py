"""The licences of a data set's sources and what they allow. Observations, not legal advice."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..sources.catalogue import catalogue


__all__ = ["Origin", "LicenceTerms", "terms_of"]

OPEN = ("apache-2.0", "cc-by-2.0", "cc-by-4.0", "cc0-1.0", "mit", "odc-by")
"""Licences that require attribution at most."""


@dataclass(frozen=True)
class Origin:
    """One source of a data set, named as in the column `source`.

    Its licence is the catalogue's, or `"not stated"` for the builder's own questions, which have no page and no
    revision.
    """

    name: str
    rows: int
    license: str
    homepage: str | None
    revision: str | None
    gated: bool


@dataclass(frozen=True)
class LicenceTerms:
    """The sources of a data set, largest first, and their licences."""

    origins: tuple[Origin, ...]

    def of(self, *parts: str) -> list[Origin]:
        """Sources with one of these parts in their licence, such as `"nc"`."""
        return [origin for origin in self.origins if set(origin.license.split("-")) & set(parts)]

    @property
    def license(self) -> str:
        """The data set's licence as the Hub spells it: the sources' licence if they share an open one."""
        found = {origin.license for origin in self.origins}
        return found.pop() if len(found) == 1 and found <= set(OPEN) else "other"

    @property
    def restrictions(self) -> list[tuple[str, list[Origin]]]:
        """Restrictions, one sentence each, with the sources that impose them."""
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


def terms_of(rows: Mapping[str, int] | Iterable[tuple[str, int]]) -> LicenceTerms:
    """The licences of sources, from the number of rows of each."""
    known = catalogue()
    origins = []
    for name, count in sorted(dict(rows).items(), key=lambda item: (-item[1], item[0])):
        source = known.get(name)
        if source is None:
            origins.append(Origin(name, count, "not stated", None, None, False))
        else:
            gated = source.gated != "none"
            origins.append(Origin(name, count, source.license, source.homepage, source.revision, gated))
    return LicenceTerms(tuple(origins))
