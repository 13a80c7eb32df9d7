"""The audit: read the data set, run all checks, and report findings and gaps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets import Dataset

from ..policies import Taxonomy
from ..similarity.encoders import Encoder
from ..similarity.options import EncoderOptions, make_encoder
from ..sources.held_out import HeldOutSet, load_held_out_sets
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
    """Check a data set before training or publishing.

    Args:
        dataset ([`~datasets.Dataset`], `str` or `Path`): Rows, a file, a folder, a build's directory, or a Hub id.
        name, split, revision (`str`, *optional*): Configuration, split (by default `train`) and revision.
        columns (`Mapping[str, str]`, *optional*): Role (`id`, `question`, `response`, `messages`, `category`,
            `source`, `score`) to column, for columns with unusual names.
        benchmarks (`Sequence[str]`, *optional*): Benchmarks of the catalogue to search for; all by default, none for
            `[]`. One that is not available is a gap in the result.
        sources_dir (`str` or `Path`, *optional*): Local copies of the benchmarks, `<sources_dir>/<name>/<file>`.
        benchmark_files (`Mapping[str, str | Path]`, *optional*): Files of benchmarks, of the catalogue or your own.
        policies (`str`, `Path` or [`Taxonomy`], *optional*): The taxonomy of the labels; STAR-1's eight by default.
        reasoning (`bool`, *optional*): Whether each response must be closed reasoning and an answer; by default if any
            response contains a reasoning tag.
        n (`int`, defaults to 8): Consecutive words that count as shared text.
        tfidf_threshold (`float`, defaults to 0.6): Lowest TF-IDF cosine of similar texts.
        embedding_threshold (`float`, *optional*): Lowest embedding cosine of similar texts; by default texts are not
            encoded.
        encoder ([`Encoder`], [`EncoderOptions`] or `str`, *optional*): The embedding model; the packaged
            all-MiniLM-L6-v2 by default.
        cache_dir (`str` or `Path`, *optional*): Folder for embeddings.
        num_threads (`int`, *optional*): Threads; all processors by default.
        progress (`bool`, defaults to `False`): Whether to show a progress bar.

    Returns:
        [`Audit`]: With `ok`, `complete` and `findings`.

    Raises:
        [`SourceError`]: If the data set or a benchmark's file cannot be read.
        [`ConfigError`]: If a threshold is not in (0, 1].

    Example:

    ```python
    >>> from star_hf.audit import audit

    >>> found = audit("UCSC-VLAA/STAR-1")
    >>> found.ok, found.complete
    ```
    """
    model = None if embedding_threshold is None else make_encoder(encoder)
    cache = Path(cache_dir) if cache_dir else None
    overlap = Overlap(n, tfidf_threshold, embedding_threshold, model, cache, num_threads)
    taxonomy = policies if isinstance(policies, Taxonomy) else Taxonomy.load(policies)
    with track("Auditing", 4, progress) as bar:
        rows = load_rows(dataset, name=name, split=split, revision=revision, columns=columns)
        bar.advance()
        protected, missing = load_held_out_sets(
            benchmarks,
            sources_dir=Path(sources_dir) if sources_dir else None,
            files={key: Path(file) for key, file in (benchmark_files or {}).items()},
        )
        bar.advance()
        malformed, skipped = check_form(rows, taxonomy, reasoning)
        shape, statistics = check_shape(rows)
        languages, statistics["languages"] = check_language(rows, bar.part("reading languages"))
        bar.advance()
        if embedding_threshold is None:
            skipped["embedding"] = "no embedding threshold was given"
        similar = check_overlap(rows, protected, overlap, bar.part("encoding"))
        bar.advance()
    findings = sorted(
        [*_gaps(missing, benchmarks, protected), *similar, *malformed, *languages, *shape],
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


def _gaps(missing: Mapping[str, str], asked: Sequence[str] | None, found: Sequence[HeldOutSet]) -> list[Finding]:
    """One gap for each benchmark that is not available, or one if none was requested."""
    gaps = [
        Finding("benchmark_missing", "gap", f"{name} was not searched for: {why}") for name, why in missing.items()
    ]
    if not found and not missing and asked is not None:
        gaps.append(Finding("benchmark_missing", "gap", "No benchmark was searched for, since none was requested."))
    return gaps


def _texts(rows: Rows, benchmarks: Sequence[HeldOutSet], findings: Sequence[Finding]) -> dict[int | str, str]:
    """The questions of findings, and the texts of benchmarks that are not gated."""
    hits = [hit for finding in findings for hit in finding.hits]
    named = {row for hit in hits for row in (hit.row, hit.matched_row) if row is not None}
    wanted = {hit.matched_id for hit in hits if hit.benchmark is not None}
    free = (benchmark for benchmark in benchmarks if benchmark.gated == "none")
    theirs = {row_id(text): text for benchmark in free for text in benchmark.texts}
    return {row: rows.questions[row] for row in sorted(named)} | {id: theirs[id] for id in wanted & theirs.keys()}
