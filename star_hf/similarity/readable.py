"""Which texts an encoder can tell apart, measured on the texts themselves.

To a model that was trained on English, all texts in Thai are alike. Such texts are left to the word measures.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..utils.files import sha256_of
from ..utils.language import UNCLEAR, language_or_script
from ..utils.text import counted, is_blank
from .encoders import Encoder
from .vectors import embed


__all__ = ["SAMPLE", "counts_as", "find_readable", "sample_of", "tells_apart", "warn_of"]

logger = logging.getLogger(__name__)

SAMPLE = 64
"""Texts per language or script that are measured."""

_FEW = 16
"""Fewer texts in English are not measured: nearly every model reads English."""

_SPREAD = 0.08, 0.1
"""Lowest standard deviation that is assumed, and what is added to it, divided by the root of the number of texts."""


def find_readable(
    texts: Sequence[str],
    encoder: Encoder,
    threshold: float,
    cache_dir: str | Path | None = None,
    *,
    leave_out: bool = True,
) -> tuple[np.ndarray, dict[str, int]]:
    """Which texts an encoder can tell apart at a threshold, and a warning if there are others.

    Texts are grouped by script, and by language if their letters are Latin. A language that the encoder names in its
    attribute `languages` is not measured. `leave_out` only changes what the warning says.

    Returns:
        A mask of the texts to encode, and the number of other texts by language or script.
    """
    groups = list(map(language_or_script, texts))
    usual = counts_as(Counter(groups))
    groups = [usual if group == UNCLEAR else group for group in groups]
    members: dict[str, list[str]] = {}
    for text, group in zip(texts, groups, strict=True):
        members.setdefault(group, []).append(text)
    unread = {
        group: len(own) for group, own in members.items() if not tells_apart(group, own, encoder, threshold, cache_dir)
    }
    warn_of(unread, encoder, leave_out)
    return np.array([group not in unread for group in groups], bool), dict(Counter(unread).most_common())


def counts_as(sizes: Mapping[str, int]) -> str:
    """The language that texts in Latin letters count as if theirs is unclear: the commonest one, unless they are more.

    `sizes` are the numbers of texts by language or script.
    """
    clear = [(count, group) for group, count in sizes.items() if group.islower()]  # codes of languages
    count, usual = max(clear, default=(0, UNCLEAR))
    return usual if count >= sizes.get(UNCLEAR, 0) else UNCLEAR


def tells_apart(
    group: str, texts: Iterable[str], encoder: Encoder, threshold: float, cache_dir: str | Path | None = None
) -> bool:
    """Whether an encoder can tell apart texts of a language or script.

    It is measured by first and second halves of a sample: they say different things, even where whole texts repeat
    each other. If the cosine of a first and a second half may reach the threshold (three standard deviations above
    the mean), two texts that reach it need not be alike.
    """
    known = getattr(encoder, "languages", None) or ()
    if group in known or "*" in known:
        return True
    halves = [parts for parts in map(_halves, sample_of(texts)) if not any(map(is_blank, parts))]
    if not halves or (group == "en" and len(halves) < _FEW):
        return True
    vectors = embed([part for parts in halves for part in parts], encoder, cache_dir)
    cosines = vectors[::2].astype(np.float64) @ vectors[1::2].T
    spread = max(float(cosines.std()), _SPREAD[0] + _SPREAD[1] / len(halves) ** 0.5)
    return float(cosines.mean()) + 3 * spread < threshold


def sample_of(texts: Iterable[str]) -> list[str]:
    """The texts to measure, whatever their order: the distinct ones with the lowest hashes."""
    return sorted(set(texts), key=lambda text: sha256_of(text.encode("utf-8", "surrogatepass")))[:SAMPLE]


def warn_of(unread: Mapping[str, int], encoder: Encoder, leave_out: bool = True) -> None:
    """Say which texts an encoder cannot tell apart, and whether they are left to the word measures."""
    if unread:
        logger.warning(
            "%s cannot tell texts in %s apart, %s. To compare them by meaning, set `encoder` to a model of their "
            "languages.",
            encoder.identity.split("@")[0],
            ", ".join(f"{group} ({counted(count, 'text')})" for group, count in Counter(unread).most_common()),
            "so these are compared by words alone" if leave_out else "but the profile `paper` compares them by it",
        )


def _halves(text: str) -> tuple[str, str]:
    """The first and the second half of the words of a text, or of its characters if it has fewer than four words."""
    words = text.split()
    if len(words) < 4:
        return text[: len(text) // 2], text[len(text) // 2 :]
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
