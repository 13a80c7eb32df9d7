"""The audit itself: read, look, and say what was found and what was not looked at."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from ..policies import Taxonomy
from ..similarity.encoders import Encoder
from ..similarity.options import EncoderOptions, make_encoder
from ..sources.held_out import Benchmark, load_benchmarks
from ..utils.progress import track
from ..utils.text import row_id
from .form import check_form
from .language import check_language
from .overlap import Overlap, check_overlap
from .rows import Rows, load_rows
from .shape import check_shape
from .types import SEVERITIES, Audit, Finding


__all__ = ["audit"]


def audit(
    dataset: Dataset | str | Path,
    *,
    name: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
    benchmarks: Sequence[str] | None = None,
    sources_dir: str | Path | None = None,
    benchmark_files: Mapping[str, str | Path] | None = None,
    policies: str | Path | Taxonomy | None = None,
    reasoning: bool | None = None,
    n: int = 8,
    tfidf_threshold: float = 0.6,
    embedding_threshold: float | None = None,
    encoder: Encoder | EncoderOptions | str | None = None,
    cache_dir: str | Path | None = None,
    num_threads: int | None = None,
    progress: bool = False,
) -> Audit:
    """Look at a data set before it is trained on or published.

    Args:
        dataset ([`~datasets.Dataset`], `str` or `Path`): Rows, a file, a folder, a build's directory, or an id on the
            Hub.
        name, split, revision (`str`, *optional*): Configuration, split (by default `train`) and revision.
        columns (`Mapping[str, str]`, *optional*): Role (`id`, `question`, `response`, `messages`, `category`,
            `source`, `score`) to column, where a column is called otherwise than usual.
        benchmarks (`Sequence[str]`, *optional*): The catalogue's benchmarks to search for; all by default, safety and
            reasoning alike, none for `[]`. One that cannot be had is a gap in the result.
        sources_dir (`str` or `Path`, *optional*): Local copies of the benchmarks, `<sources_dir>/<name>/<file>`.
        benchmark_files (`Mapping[str, str | Path]`, *optional*): A file for a benchmark, the catalogue's or your own.
        policies (`str`, `Path` or [`Taxonomy`], *optional*): The taxonomy of the labels; STAR-1's eight by default.
        reasoning (`bool`, *optional*): Whether each response must be a closed thought and an answer; by default as
            soon as one response has a tag of a thought.
        n (`int`, defaults to 8): Words in a row that count as shared text.
        tfidf_threshold (`float`, defaults to 0.6): Lowest TF-IDF cosine that counts as alike.
        embedding_threshold (`float`, *optional*): Lowest embedding cosine that counts as alike; left out by default,
            since each text must then be encoded.
        encoder ([`Encoder`], [`EncoderOptions`] or `str`, *optional*): The embedding model, or what names one; the
            packaged all-MiniLM-L6-v2 by default.
        cache_dir (`str` or `Path`, *optional*): Where to keep embeddings for the next audit.
        num_threads (`int`, *optional*): Threads; all processors by default.
        progress (`bool`, defaults to `False`): Whether to show a progress bar.

    Returns:
        [`Audit`]: Ask it for `ok`, `complete` and `findings`.

    Raises:
        [`SourceError`]: If the data set cannot be read, or a benchmark's file cannot be understood.
        [`ConfigError`]: If a threshold is none of a cosine.

    Example:

    ```python
    >>> from star_hf.audit import audit

    >>> found = audit("UCSC-VLAA/STAR-1")
    >>> found.ok, found.complete
    ```
    """
    overlap = Overlap(n, tfidf_threshold, embedding_threshold)
    taxonomy = policies if isinstance(policies, Taxonomy) else Taxonomy.load(policies)
    with track("Auditing", 4, progress) as bar:
        rows = load_rows(dataset, name=name, split=split, revision=revision, columns=columns)
        bar.advance()
        protected, missing = load_benchmarks(
            benchmarks,
            sources_dir=Path(sources_dir) if sources_dir else None,
            files={key: Path(file) for key, file in (benchmark_files or {}).items()},
        )
        bar.advance()
        broken, skipped = check_form(rows, taxonomy, reasoning)
        described, statistics = check_shape(rows)
        spoken, statistics["languages"] = check_language(rows, bar.part("reading languages"))
        bar.advance()
        if embedding_threshold is None:
            skipped["embedding"] = "no embedding threshold was given"
        else:
            encoder = make_encoder(encoder)
        cache = Path(cache_dir) if cache_dir else None
        alike = check_overlap(rows, protected, overlap, encoder, cache, num_threads, bar.part("encoding"))
        bar.advance()
    findings = sorted(
        [*_gaps(missing, benchmarks, protected), *alike, *broken, *spoken, *described],
        key=lambda finding: list(SEVERITIES).index(finding.severity),
    )
    return Audit(
        dataset=f"{len(dataset):,} rows in memory" if isinstance(dataset, Dataset) else str(dataset),
        revision=revision,
        rows=len(rows),
        columns=rows.columns,
        options={
            "n": n,
            "tfidf_threshold": tfidf_threshold,
            "embedding_threshold": embedding_threshold,
            "taxonomy": f"{taxonomy.name} {taxonomy.version}",
        },
        findings=tuple(findings),
        benchmarks={benchmark.name: benchmark.to_dict() for benchmark in protected},
        skipped=skipped,
        statistics=statistics,
        texts=_texts(rows, protected, findings),
    )


def _gaps(missing: Mapping[str, str], asked: Sequence[str] | None, found: Sequence[Benchmark]) -> list[Finding]:
    """One gap for each benchmark that could not be had, and one where none was asked for."""
    gaps = [
        Finding("benchmark_missing", "gap", f"{name} was not searched for: {why}") for name, why in missing.items()
    ]
    if not found and not missing and asked is not None:
        gaps.append(Finding("benchmark_missing", "gap", "No benchmark was searched for, since none was asked for."))
    return gaps


def _texts(rows: Rows, benchmarks: Sequence[Benchmark], findings: Sequence[Finding]) -> dict[int | str, str]:
    """The questions that findings name, and the benchmarks' texts where their terms let them be shown."""
    hits = [hit for finding in findings for hit in finding.hits]
    named = {row for hit in hits for row in (hit.row, hit.matched_row) if row is not None}
    wanted = {hit.matched_id for hit in hits if hit.benchmark is not None}
    free = (benchmark for benchmark in benchmarks if benchmark.gated == "none")
    theirs = {row_id(text): text for benchmark in free for text in benchmark.texts}
    return {row: rows.questions[row] for row in sorted(named)} | {id: theirs[id] for id in wanted & theirs.keys()}
