"""Deduplicate the corpus and decontaminate it against held-out benchmarks (paper, Section 2.1).

The reason in `removed` is `<measure>_contamination` if the match is a held-out item, else `<measure>_duplicate`;
`detail` names the step and its parameter:

| step | measure | a row is removed if it is like | `paper` | `recommended` |
|---|---|---|---|---|
| exact | `exact` | a held-out item or an earlier row, once normalised | not done | first |
| a | `ngram` | an earlier row of its source (shares n words in a row) | kept or not | kept only, and after c |
| b | `ngram` | a held-out item or a kept row of an earlier source (8 words) | | |
| c | `tfidf` | one of those (cosine) | weights refitted per source | weights fitted once |
| d | `tfidf` | an earlier kept row of any source | weights refitted | weights fitted once |
| e | `embedding` | an earlier kept row of any source | | after f |
| f | `embedding` | a held-out item | | |

"Earlier" is the order of the rows in `paper`. In `recommended` the smallest source comes first, then `id`, so the
result does not depend on the order of the rows; texts are compared in folded form
([`~star_hf.utils.folding.fold`]), words by script ([`~star_hf.similarity.scripts`]), and embeddings only in
languages in which the model can tell texts apart ([`~star_hf.similarity.readable`]).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..deduplication.evidence import ComputedEvidence
from ..deduplication.result import Deduplication, as_collected
from ..deduplication.rules import Steps, paper_order, spans_of, stable_order
from ..errors import ConfigError
from ..schema import COLLECTED
from ..similarity.encoders import Encoder
from ..similarity.options import EncoderOptions, make_encoder
from ..similarity.pairs import check_thresholds
from ..utils.progress import track


__all__ = ["STEPS", "deduplicate", "stable_order"]

STEPS = {"paper": ("a", "b", "c", "d", "e", "f"), "recommended": ("exact", "b", "c", "a", "d", "f", "e")}
"""The steps of each profile in their order; `detail` of a removed row begins with `step <name>`."""


def deduplicate(
    rows: Dataset,
    held_out: Dataset,
    *,
    profile: str = "recommended",
    ngram: Mapping[str, int] | None = None,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = 0.7,
    encoder: Encoder | EncoderOptions | str | None = None,
    cache_dir: str | Path | None = None,
    num_threads: int | None = None,
    progress: bool = True,
) -> Deduplication:
    """Remove rows that are near-duplicates of other rows or of held-out items (paper, Section 2.1).

    Args:
        rows ([`~datasets.Dataset`]): `COLLECTED` columns, in the catalogue's order; ids may repeat.
        held_out ([`~datasets.Dataset`]): `COLLECTED` columns of the benchmark items.
        profile (`str`, defaults to `"recommended"`): `"paper"` or `"recommended"`, as in the module's table.
        ngram (`Mapping[str, int]`, *optional*): Words per n-gram within each source, 8 for sources not named.
        tfidf_threshold (`float`, defaults to 0.6): Lowest TF-IDF cosine at which texts are alike.
        embedding_threshold (`float` or `None`, defaults to 0.7): Lowest embedding cosine at which texts are alike;
            `None` skips steps e and f.
        encoder ([`Encoder`], [`EncoderOptions`] or `str`, *optional*): The embedding model or its name, such as an
            id on the Hub or `openai:text-embedding-3-small`. By default the packaged all-MiniLM-L6-v2.
        cache_dir (`str` or `Path`, *optional*): Folder that keeps embeddings for the next run.
        num_threads (`int`, *optional*): Threads for the joins; all processors by default.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

    Returns:
        [`Deduplication`]: Kept rows and removed rows, both in the order of `rows`. A `matched_id` names a held-out
        item or an earlier row, which was kept or removed for a match of its own.

    Raises:
        ConfigError: If the profile is unknown or a threshold is invalid.
        SourceError: If a column of `COLLECTED` or a value in it is missing.
        StarError: If the embedding model's packages are not installed.
    """
    if profile not in STEPS:
        raise ConfigError(f"Unknown profile {profile!r}.", f"Profiles: {', '.join(STEPS)}.")
    check_thresholds(tfidf_threshold, embedding_threshold)
    rows, held_out = as_collected(rows), as_collected(held_out)
    paper = profile == "paper"
    columns = [rows[name][:] for name in COLLECTED]
    order = (paper_order if paper else stable_order)(*columns)
    texts, sources = (
        [*held_out[name][:], *map(column.__getitem__, order)]
        for name, column in zip(("question", "source"), columns[1:], strict=True)
    )
    spans = spans_of(sources, len(held_out))
    unread: dict[str, int] = {}
    with track("Deduplicating", len(spans) + (1 if embedding_threshold is None else 3), progress) as bar:
        evidence = ComputedEvidence(texts, paper=paper, num_threads=num_threads, bar=bar)
        steps = Steps(evidence, len(held_out), spans, paper=paper)
        steps.by_words(ngram or {}, tfidf_threshold, bar.advance)
        if embedding_threshold is not None:
            encoder = make_encoder(encoder)
            unread = evidence.embed(np.flatnonzero(steps.alive), encoder, embedding_threshold, cache_dir)
            steps.by_embeddings(embedding_threshold, bar.advance)
    return Deduplication.of(rows, held_out, steps.removals(order), unread=unread)
