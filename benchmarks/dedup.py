"""Time and peak memory of steps (a)-(d) against the dense way of doing them, each in a process of its own.

    python benchmarks/dedup.py --parquet as_read_by_star1.parquet     # columns role, dataset, question
    python benchmarks/dedup.py --rows 5000                            # a seeded synthetic corpus
    python benchmarks/dedup.py --parquet … --rows 530000 --ours-only  # real rows plus seeded variations

Two baselines keep the same rows. `published` does what the published code does: a table from each n-gram string to
the set of its rows, made anew for all references of each source; a dense float64 matrix of all rows against all
references, and of all rows; a Python loop which looks a column up at a list of kept rows that becomes an array for
each row. It is kinder than that code where this does not change what is kept: nothing is written to disk between the
steps (there the matrix of all rows is), no bars are drawn, and no match is looked up for a row that goes. Where rows
share an n-gram it spares the first, and the published code whichever a set gives up. `dense` is the same with what a
careful reader would repair in a minute: n-grams in one growing set, rows of the matrix instead of columns, an array of
kept rows.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import numpy as np


SIDES = ("ours", "published", "dense")
NGRAM = {"BeaverTails": 5, "wildjailbreak": 5, "PKUSafeRLHF": 6}
NGRAM |= dict.fromkeys(("AttaQ", "HarmfulQA", "SafetyInstructions", "UltraSafety", "ALERT"), 7)
SMALL_FIRST = (
    "GPTFuzz SimpleSafetyTests MaliciousInstruct QHarm TDCRedTeaming MaliciousInstructions HarmfulQ HarmBench AttaQ "
    "HarmfulQA SafetyInstructions ALERT"
).split()


def synthetic(size: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Questions of 6 to 20 words drawn with Zipf's frequencies, in four sources, and 5 % as held-out items."""
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in draw.zipf(1.3, draw.integers(6, 20)) % 30_000) for _ in range(size)]
    return [(f"source{index * 4 // size}", text) for index, text in enumerate(texts)], texts[:: 20 * 7]


def corpus(parquet: str | None, size: int | None) -> tuple[list[tuple[str, str]], list[str]]:
    """Rows as (source, question) and held-out questions; beyond the real rows, seeded variations of them.

    As in the paper's 530K, of which 41K were left, most are repeats: 40 % are questions that are there already
    (BeaverTails and wildjailbreak hold one prompt many times), 30 % have one to three words dropped, exchanged,
    swapped or put before, and 30 % are new: walks through the real questions' word pairs, of the same lengths.
    """
    if parquet is None:
        return synthetic(size or 5_000)
    import pyarrow.parquet as pq

    table = pq.read_table(parquet, columns=["role", "dataset", "question"]).to_pylist()
    rows = [(row["dataset"], row["question"]) for row in table if row["role"] == "train"]
    rows.sort(key=lambda row: SMALL_FIRST.index(row[0]))
    held_out = [row["question"] for row in table if row["role"] == "test"]
    real = [question.split() or ["?"] for _, question in rows]
    following = defaultdict(list)
    for words in real:
        for word, after in zip(words, words[1:], strict=False):
            following[word].append(after)
    pool, draw = [word for words in real for word in words], random.Random(0)
    new = [" ".join(varied(draw, real, following, pool)) for _ in range(max((size or 0) - len(rows), 0))]
    half = len(new) // 3
    return rows + [("BeaverTails" if i < half else "wildjailbreak", text) for i, text in enumerate(new)], held_out


def varied(draw: random.Random, real: list[list[str]], following: dict[str, list[str]], pool: list[str]) -> list[str]:
    """One more question; a new one joins those that later ones are made of."""
    words, kind = list(draw.choice(real)), draw.random()
    if kind < 0.4:
        return words
    if kind < 0.7:
        for _ in range(draw.randint(1, 3)):
            place, change = draw.randrange(len(words)), draw.randrange(4)
            if change == 0 and len(words) > 1:
                words.pop(place)
            elif change == 1:
                words[place] = draw.choice(pool)
            elif change == 2:
                words[place], words[0] = words[0], words[place]
            else:
                words.insert(place, draw.choice(pool))
    else:
        walk = [words[0]]
        while len(walk) < len(words):
            walk.append(draw.choice(following.get(walk[-1]) or pool))
        words = walk
    real.append(words)
    return words


def ours(rows: list[tuple[str, str]], held_out: list[str], profile: str) -> Callable[[], int]:
    """What counts the rows that star_hf keeps."""
    from star_hf.schema import COLLECTED, as_dataset
    from star_hf.transforms.deduplicate import deduplicate
    from star_hf.utils.text import row_id

    corpus, benchmark = (
        as_dataset(({"id": row_id(text), "question": text, "source": source} for source, text in pairs), COLLECTED)
        for pairs in (rows, [("held out", text) for text in held_out])
    )
    options = {"profile": profile, "ngram": NGRAM, "embedding_threshold": None, "progress": False}
    return lambda: len(deduplicate(corpus, benchmark, **options).rows)


def by_source(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Questions of each source."""
    sources = defaultdict(list)
    for source, text in rows:
        sources[source].append(text)
    return sources


def grams(text: str, n: int) -> list[str]:
    """All runs of n words."""
    words = text.lower().split()
    return [" ".join(words[i : i + n]) for i in range(len(words) - n + 1)]


def published(rows: list[tuple[str, str]], held_out: list[str]) -> int:
    """Number of rows that the published way keeps."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    def lookup(texts: list[str], n: int) -> dict[str, set[int]]:
        rows_of = defaultdict(set)
        for index, text in enumerate(texts):
            for gram in grams(text, n):
                rows_of[gram].add(index)
        return rows_of

    def without(texts: list[str], gone: set[int]) -> list[str]:
        return [text for index, text in enumerate(texts) if index not in gone]

    kept: list[str] = []
    for source, texts in by_source(rows).items():
        repeated = (owners for owners in lookup(texts, NGRAM.get(source, 8)).values() if len(owners) > 1)
        texts = without(texts, {index for owners in repeated for index in owners - {min(owners)}})
        references = held_out + kept
        own, known = lookup(texts, 8), lookup(references, 8)
        texts = without(texts, {index for gram, owners in own.items() if gram in known for index in owners})
        weights = TfidfVectorizer().fit_transform(references + texts)
        cosine = cosine_similarity(weights[: len(references)], weights[len(references) :])
        kept += without(texts, set(np.flatnonzero((cosine >= 0.6).any(axis=0)).tolist()))
    cosine = cosine_similarity(TfidfVectorizer().fit_transform(kept))
    chosen = [0]
    for index in range(1, len(kept)):
        if not (cosine[np.array(chosen), index] >= 0.6).any():
            chosen.append(index)
    return len(chosen)


def dense(rows: list[tuple[str, str]], held_out: list[str]) -> int:
    """The same by rows of the matrix and growing sets."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    kept: list[str] = []
    for source, texts in by_source(rows).items():
        n, seen, left = NGRAM.get(source, 8), set(), []
        for text in texts:
            own = set(grams(text, n))
            if not own & seen:
                left.append(text)
            seen |= own
        references = held_out + kept
        known = {gram for text in references for gram in grams(text, 8)}
        left = [text for text in left if known.isdisjoint(grams(text, 8))]
        weights = TfidfVectorizer().fit_transform(references + left)
        cosine = cosine_similarity(weights[len(references) :], weights[: len(references)])
        kept += [text for text, row in zip(left, cosine, strict=True) if row.max() < 0.6]
    cosine = cosine_similarity(TfidfVectorizer().fit_transform(kept))
    chosen = np.array([0])
    for index in range(1, len(kept)):
        if (cosine[index, chosen] < 0.6).all():
            chosen = np.append(chosen, index)
    return len(chosen)


def measured(arguments: argparse.Namespace, which: str) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, __file__, "--only", which, "--profile", arguments.profile]
    command += ["--parquet", arguments.parquet] if arguments.parquet else []
    command += ["--rows", str(arguments.rows)] if arguments.rows else []
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parquet", help="real rows; without it the corpus is synthetic")
    parser.add_argument("--rows", type=int, help="corpus size: synthetic rows, or real rows plus variations")
    parser.add_argument("--profile", choices=("paper", "recommended"), default="paper")
    parser.add_argument("--ours-only", action="store_true")
    parser.add_argument("--only", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        rows, held_out = corpus(arguments.parquet, arguments.rows)
        others = {"published": partial(published, rows, held_out), "dense": partial(dense, rows, held_out)}
        side = others.get(arguments.only) or ours(rows, held_out, arguments.profile)
        start, before = time.perf_counter(), time.process_time()
        kept = side()
        seconds, cpu = time.perf_counter() - start, time.process_time() - before
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"rows": len(rows), "kept": kept, "seconds": seconds, "cpu": cpu, "peak_mb": peak}))
        return
    sides = SIDES[:1] if arguments.ours_only else SIDES
    results = {side: measured(arguments, side) for side in sides}
    for side, result in results.items():
        size, spent = f"{result['rows']:7} rows -> {result['kept']:7}", f"{result['seconds']:8.2f} s"
        print(f"{side:9} {size}  {spent}  {result['cpu']:8.2f} s of CPU  {result['peak_mb']:8.0f} MB")
    for side in sides[1:]:
        ratio = {name: results[side][name] / results["ours"][name] for name in ("seconds", "peak_mb")}
        print(f"ours is {ratio['seconds']:.1f} times as fast as {side}, with 1/{ratio['peak_mb']:.1f} of its memory")


if __name__ == "__main__":
    main()
