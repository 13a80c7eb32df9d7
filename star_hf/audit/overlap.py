"""Duplicates within a data set, and contamination with benchmark texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..similarity.embeddings import embedding_join
from ..similarity.encoders import Encoder
from ..similarity.ngrams import first_sharers
from ..similarity.pairs import Matches, OnProgress, best_per_left, check_thresholds, concatenate
from ..similarity.readable import find_readable
from ..similarity.texts import PreparedTexts
from ..similarity.tfidf import tfidf_join, tfidf_weights
from ..similarity.vectors import embed_some
from ..sources.held_out import HeldOutSet
from ..utils.text import counted, is_blank, row_id
from .rows import Rows
from .types import Finding, Hit, Severity


__all__ = ["SAME", "Overlap", "check_overlap"]

Search = Callable[[np.ndarray], Matches]

SAME = 0.9
"""From this similarity on, a row counts as a benchmark text with a word or two changed."""


@dataclass(frozen=True)
class Overlap:
    """What counts as similar, and how to find it: the options of [`audit`]. `embedding` needs an `encoder`."""

    n: int = 8
    tfidf: float = 0.6
    embedding: float | None = None
    encoder: Encoder | None = None
    cache_dir: Path | None = None
    num_threads: int | None = None

    def __post_init__(self) -> None:
        check_thresholds(self.tfidf, self.embedding)


def check_overlap(
    rows: Rows, benchmarks: Sequence[HeldOutSet], overlap: Overlap, on_progress: OnProgress | None = None
) -> list[Finding]:
    """Search for contamination and duplicates, by the strongest measure that finds each.

    A row has one hit for each benchmark that it matches, and one more if it repeats an earlier row. Equal texts,
    shared n-grams and similarities of [`SAME`] or more with a benchmark are errors, lower similarities warnings.
    Duplicates within the data set are warnings.
    """
    items = [
        (benchmark.name, text, field)
        for benchmark in benchmarks
        for text, field in zip(benchmark.texts, benchmark.fields, strict=True)
        if not is_blank(text)
    ]
    prepared = PreparedTexts.of([*(text for _, text, _ in items), *rows.questions])
    names, start = np.array([name for name, _, _ in items] + [""] * len(rows)), len(items)
    searches, unread = _searches(prepared, start, overlap, on_progress)
    found: dict[tuple[str, bool], list[Hit]] = {}
    for name in dict.fromkeys(names.tolist()):
        seen: set[int] = set()
        for measure, search in searches.items():
            for left, right, similarity in search(names == name):
                if left not in seen:
                    seen.add(left)
                    row, other = left - start, right - start
                    where = (row_id(items[right][1]), None, name) if name else (rows.ids[other], other, None)
                    field = items[right][2] if name else None
                    hit = Hit(row, rows.ids[row], *where, min(similarity, 1.0), field)
                    found.setdefault((measure, bool(name)), []).append(hit)
    findings = [
        finding for (measure, held), hits in found.items() for finding in _findings(measure, held, hits, overlap)
    ]
    if unread:
        groups = ", ".join(f"{group} ({counted(count, 'text')})" for group, count in unread.items())
        summary = f"Compared by words alone, since the embedding model cannot tell these texts apart: {groups}."
        findings.append(Finding("words_only", "warning", summary))
    return findings


def _searches(
    prepared: PreparedTexts, start: int, overlap: Overlap, on_progress: OnProgress | None
) -> tuple[dict[str, Search], dict[str, int]]:
    """For each measure, the strongest first, a search for the best match of each row among the eligible texts.

    Also the texts by language or script that are not compared by embeddings, since the encoder cannot tell them apart.

    Texts are numbered, rows from `start` on. Rows that repeat an earlier row are not compared with each other.
    """
    asked, benchmark = np.arange(start, len(prepared.texts)), np.arange(start)
    equal, grams = prepared.keys(), prepared.ngrams(overlap.n)
    filled = np.asarray([not is_blank(text) for text in prepared.texts], bool)
    fresh = start + np.sort(np.unique(equal.ids[start:], return_index=True)[1])

    def together(found: Matches, own: Matches) -> Search:
        matches = concatenate([found.renumbered(asked, benchmark), own.renumbered(fresh, fresh)])
        return lambda eligible: best_per_left(matches, eligible)

    weights, threads = tfidf_weights(prepared.counts()), {"num_threads": overlap.num_threads}
    searches = {
        "exact": lambda eligible: first_sharers(equal, eligible & filled, asked),
        "ngram": lambda eligible: first_sharers(grams, eligible, asked),
        "tfidf": together(
            tfidf_join(weights[start:], weights[:start], overlap.tfidf, **threads),
            tfidf_join(weights[fresh], None, overlap.tfidf, **threads),
        ),
    }
    unread: dict[str, int] = {}
    if overlap.embedding is not None and overlap.encoder is not None:
        readable, unread = find_readable(prepared.texts, overlap.encoder, overlap.embedding, overlap.cache_dir)
        vectors = embed_some(prepared.texts, readable & filled, overlap.encoder, overlap.cache_dir, on_progress)
        searches["embedding"] = together(
            embedding_join(vectors[start:], vectors[:start], overlap.embedding, **threads),
            embedding_join(vectors[fresh], None, overlap.embedding, **threads),
        )
    return searches, unread


def _findings(measure: str, benchmark: bool, hits: list[Hit], overlap: Overlap) -> list[Finding]:
    """One finding, or for a benchmark two if some similarities are below [`SAME`]."""
    least = {"tfidf": overlap.tfidf, "embedding": overlap.embedding}.get(measure, 1.0)

    def finding(kind: str, severity: Severity, similarity: str, chosen: list[Hit]) -> Finding:
        how = {
            "exact": "The same text, except for case and spaces, as",
            "ngram": f"{overlap.n} consecutive words shared with",
            "tfidf": f"A TF-IDF cosine of {similarity} with",
            "embedding": f"An embedding cosine of {similarity} with",
        }[measure]
        summary = f"{how} {'a benchmark text' if benchmark else 'an earlier row'}."
        ordered = sorted(chosen, key=lambda hit: (hit.row, hit.benchmark or ""))
        return Finding(f"{measure}_{kind}", severity, summary, tuple(ordered))

    if not benchmark:
        return [finding("duplicate", "warning", f"{least} or more", hits)]
    same, near = [hit for hit in hits if hit.similarity >= SAME], [hit for hit in hits if hit.similarity < SAME]
    found = [finding("contamination", "error", f"{max(least, SAME)} or more", same)] if same else []
    return found + ([finding("near_contamination", "warning", f"{least} to {SAME}", near)] if near else [])
