"""What a data set repeats of itself, and what it gives away of a benchmark."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..similarity.embeddings import embedding_join, embedding_self_join
from ..similarity.encoders import Encoder
from ..similarity.ngrams import first_sharers_among
from ..similarity.pairs import Matches, best_per_left, check_thresholds, concatenate
from ..similarity.texts import PreparedTexts
from ..similarity.tfidf import tfidf_weights, threshold_join, threshold_self_join
from ..similarity.vectors import embed
from ..sources.held_out import Benchmark
from ..utils.text import row_id
from .rows import Rows
from .types import Finding, Hit, Severity


__all__ = ["SAME", "Overlap", "check_overlap"]

Search = Callable[[np.ndarray], Matches]

SAME = 0.9
"""Similarity to a benchmark's text from which on a row counts as that text with a word or two changed."""


@dataclass(frozen=True)
class Overlap:
    """What counts as alike.

    Attributes:
        n (`int`): Words in a row, as s1 and open-r1 decontaminate.
        tfidf (`float`): Lowest TF-IDF cosine; weights are fitted on the rows and the benchmarks together.
        embedding (`float` or `None`): Lowest cosine of embeddings; `None` leaves them out.
    """

    n: int = 8
    tfidf: float = 0.6
    embedding: float | None = None

    def __post_init__(self) -> None:
        check_thresholds(self.tfidf, self.embedding)


def check_overlap(
    rows: Rows,
    benchmarks: Sequence[Benchmark],
    overlap: Overlap,
    encoder: Encoder | None = None,
    cache_dir: Path | None = None,
    num_threads: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Search for contamination and for duplicates, by the strongest measure that finds each.

    A row is named once for each benchmark that it touches, and once more where it repeats an earlier row. Equal texts
    and shared n-grams with a benchmark are errors, and so is a similarity of [`SAME`] or more; below that a person
    should look. Duplicates inside the data set are warnings.

    Args:
        rows ([`Rows`]): The rows.
        benchmarks (`Sequence[Benchmark]`): What they must be clear of.
        overlap ([`Overlap`]): What counts as alike.
        encoder ([`Encoder`], *optional*): Needed where `overlap.embedding` is set.
        cache_dir (`Path`, *optional*): Where to keep embeddings.
        num_threads (`int`, *optional*): Threads of the joins.
        on_progress (`Callable`, *optional*): Called with how many texts are encoded, and how many have to be.
    """
    items = [(benchmark.name, text, field) for benchmark in benchmarks for text, field in _texts(benchmark)]
    prepared = PreparedTexts.of([*(text for _, text, _ in items), *rows.questions])
    names, start = np.array([name for name, _, _ in items] + [""] * len(rows)), len(items)
    searches = _searches(prepared, start, overlap, encoder, cache_dir, num_threads, on_progress)
    found: dict[tuple[str, bool], list[Hit]] = {}
    for name in dict.fromkeys(names.tolist()):
        seen: set[int] = set()
        for measure, search in searches.items():
            matches = search(names == name)
            for left, right, similarity in zip(*(column.tolist() for column in matches.columns()), strict=True):
                if left not in seen:
                    seen.add(left)
                    row, other = left - start, right - start
                    where = (row_id(items[right][1]), None, name) if name else (rows.ids[other], other, None)
                    field = items[right][2] if name else None
                    hit = Hit(row, rows.ids[row], *where, min(similarity, 1.0), field)
                    found.setdefault((measure, bool(name)), []).append(hit)
    return [finding for (measure, held), hits in found.items() for finding in _findings(measure, held, hits, overlap)]


def _texts(benchmark: Benchmark) -> list[tuple[str, str]]:
    return [pair for pair in zip(benchmark.texts, benchmark.fields, strict=True) if pair[0].strip()]


def _searches(
    prepared: PreparedTexts,
    start: int,
    overlap: Overlap,
    encoder: Encoder | None,
    cache_dir: Path | None,
    num_threads: int | None,
    on_progress: Callable[[int, int], None] | None,
) -> dict[str, Search]:
    """For each measure, the strongest first, what finds the best match of each row (from `start` on) among some texts.

    Rows that repeat an earlier row are left out of the self-joins, which so stay small whatever is repeated.
    """
    asked, benchmark = np.arange(start, len(prepared.texts)), np.arange(start)
    equal, grams = prepared.keys(), prepared.ngrams(overlap.n)
    filled = np.asarray([bool(text.strip()) for text in prepared.texts], bool)
    fresh = start + np.sort(np.unique(equal.ids[start:], return_index=True)[1])

    def together(found: Matches, own: Matches) -> Search:
        matches = concatenate([found.renumbered(asked, benchmark), own.renumbered(fresh, fresh)])
        return lambda eligible: best_per_left(matches, eligible)

    weights = tfidf_weights(prepared.counts())
    searches = {
        "exact": lambda eligible: first_sharers_among(equal, eligible & filled, asked),
        "ngram": lambda eligible: first_sharers_among(grams, eligible, asked),
        "tfidf": together(
            threshold_join(weights[start:], weights[:start], overlap.tfidf, num_threads=num_threads),
            threshold_self_join(weights[fresh], overlap.tfidf, num_threads=num_threads),
        ),
    }
    if overlap.embedding is not None and encoder is not None:
        vectors = embed(prepared.texts, encoder, cache_dir, on_progress)
        vectors[~filled] = 0
        searches["embedding"] = together(
            embedding_join(vectors[start:], vectors[:start], overlap.embedding, num_threads=num_threads),
            embedding_self_join(vectors[fresh], overlap.embedding, num_threads=num_threads),
        )
    return searches


def _findings(measure: str, benchmark: bool, hits: list[Hit], overlap: Overlap) -> Iterator[Finding]:
    """One finding, or for a benchmark two where some similarities are below [`SAME`]."""
    least = {"tfidf": overlap.tfidf, "embedding": overlap.embedding}.get(measure, 1.0)
    if not benchmark:
        yield _finding(
            f"{measure}_duplicate", "warning", _words(measure, overlap.n, f"{least} or more") + " an earlier row", hits
        )
        return
    if same := [hit for hit in hits if hit.similarity >= SAME]:
        words = _words(measure, overlap.n, f"{max(least, SAME)} or more")
        yield _finding(f"{measure}_contamination", "error", f"{words} a benchmark's text", same)
    if near := [hit for hit in hits if hit.similarity < SAME]:
        words = _words(measure, overlap.n, f"{least} to {SAME}")
        yield _finding(f"{measure}_near_contamination", "warning", f"{words} a benchmark's text", near)


def _words(measure: str, n: int, similarity: str) -> str:
    return {
        "exact": "The same, letter case and spaces aside, as",
        "ngram": f"{n} words in a row shared with",
        "tfidf": f"A TF-IDF cosine of {similarity} with",
        "embedding": f"An embedding cosine of {similarity} with",
    }[measure]


def _finding(check: str, severity: Severity, words: str, hits: list[Hit]) -> Finding:
    return Finding(check, severity, f"{words}.", tuple(sorted(hits, key=lambda hit: (hit.row, hit.benchmark or ""))))
