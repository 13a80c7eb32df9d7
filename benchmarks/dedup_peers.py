"""Exact deduplication beside semhash and MinHash, on the same questions and vectors, held against the exact pairs.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install semhash datasketch
    python -m venv /tmp/other && /tmp/other/bin/pip install text-dedup==0.4.0    # wants a urllib3 of its own
    taskset -c 0 python benchmarks/dedup_peers.py --peers /tmp/peers/bin/python --text-dedup /tmp/other/bin/python \\
        --parquet as_read_by_star1.parquet --rows 8000

| way | a row goes if | found |
|---|---|---|
| star_hf, vectors | its cosine with an earlier row that stays is 0.7 or more | exactly |
| semhash | the same, of the same vectors, which are handed over | approximately, by USearch's HNSW graph |
| star_hf, words | its TF-IDF cosine with an earlier row that stays is 0.6 or more | exactly |
| datasketch | its Jaccard similarity with one, over runs of five words, is 0.7 or more | approximately, by MinHash |
| text-dedup | the same links it to an earlier row, over any number of rows; punctuation parts words | the same |

`missed` are rows that stay although an earlier one that stays is like them, `wrong` those that go although none that
stays is, both by the way's own measure over all pairs; so some that go with their group count as wrong. Seconds are
without imports and encoding, and for text-dedup with its own reading and writing of files.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


COSINE, JACCARD, RUN, PERMUTATIONS = 0.7, 0.7, 5, 256
Work = Callable[[], list[int]]


def timed(work: Work) -> dict[str, object]:
    """The rows that stay, and how long it took to find them."""
    start = time.perf_counter()
    kept = work()
    return {"kept": kept, "seconds": time.perf_counter() - start}


def runs(words: list[str]) -> set[str]:
    return {" ".join(words[i : i + RUN]) for i in range(max(len(words) - RUN + 1, 1))}


def semhash(texts: list[str], vectors: np.ndarray) -> Work:
    from semhash import SemHash

    place = {text: number for number, text in enumerate(texts)}

    class Given:
        def encode(self, given: list[str], **unused: object) -> np.ndarray:
            return vectors[[place[text] for text in given]]

    def work() -> list[int]:
        return [place[text] for text in SemHash.from_records(texts, model=Given()).self_deduplicate(COSINE).selected]

    return work


def datasketch(texts: list[str], vectors: np.ndarray) -> Work:
    from datasketch import MinHash, MinHashLSH

    def work() -> list[int]:
        index, kept = MinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS), []
        for number, text in enumerate(texts):
            signature = MinHash(num_perm=PERMUTATIONS)
            signature.update_batch([run.encode() for run in runs(text.lower().split())])
            if not index.query(signature):
                index.insert(number, signature)
                kept.append(number)
        return kept

    return work


def text_dedup(texts: list[str], vectors: np.ndarray) -> Work:
    from datasets import load_from_disk
    from text_dedup.minhash import main as command

    folder = Path(tempfile.mkdtemp())
    rows = [json.dumps({"number": number, "text": text}) for number, text in enumerate(texts)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    options = {"path": "json", "data_files": folder / "rows.jsonl", "split": "train", "column": "text", "num_proc": 1}
    options |= {"cache_dir": folder / "cache", "output": folder / "kept", "min_length": 1}
    options |= {"ngram": RUN, "num_perm": PERMUTATIONS, "threshold": JACCARD}

    def work() -> list[int]:
        command([f"--{name}={value}" for name, value in options.items()], standalone_mode=False)
        return list(load_from_disk(folder / "kept")["number"])

    return work


PEERS = {"semhash": semhash, "datasketch": datasketch, "text-dedup": text_dedup}


def judged(kept: list[int], alike: np.ndarray) -> tuple[int, int]:
    """Rows that are missed and rows that go wrongly, given who is like whom."""
    stays = np.zeros(len(alike), bool)
    stays[kept] = True
    like_kept = (np.tril(alike, -1) & stays).any(1)
    return int((stays & like_kept).sum()), int(
        (~stays & ~(alike & stays & ~np.eye(len(alike), dtype=bool)).any(1)).sum()
    )


def jaccard(sets: list[set[str]]) -> np.ndarray:
    """Which sets have a Jaccard similarity of 0.7 or more, shape `(sets, sets)`."""
    from scipy.sparse import csr_matrix

    known = {run: number for number, run in enumerate(sorted(set().union(*sets)))}
    owners = np.repeat(np.arange(len(sets)), [len(own) for own in sets])
    numbers = [known[run] for own in sets for run in own]
    has = csr_matrix((np.ones(len(owners)), (owners, numbers)), (len(sets), len(known)))
    shared = (has @ has.T).toarray()
    return shared >= JACCARD * (np.add.outer(shared.diagonal(), shared.diagonal()) - shared) - 1e-9


def measured(texts: list[str], pythons: dict[str, str]) -> None:
    """Run all ways, the others by these interpreters, and print what each came to."""
    from star_hf.similarity.embeddings import embedding_join
    from star_hf.similarity.ngrams import split_words
    from star_hf.similarity.options import make_encoder
    from star_hf.similarity.pairs import greedy_keep
    from star_hf.similarity.tfidf import count_terms, tfidf_join, tfidf_weights
    from star_hf.similarity.vectors import embed

    vectors = embed(texts, make_encoder(), on_progress=lambda done, total: print(f"encoded {done} of {total}"))
    size = len(texts)
    found = {
        "star_hf, vectors": timed(
            lambda: np.flatnonzero(greedy_keep(embedding_join(vectors, None, COSINE), size)).tolist()
        ),
        "star_hf, words": timed(
            lambda: np.flatnonzero(
                greedy_keep(tfidf_join(tfidf_weights(count_terms(*split_words(texts))), None, 0.6), size)
            ).tolist()
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", vectors)
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        for name, python in pythons.items():
            subprocess.run([python, __file__, "--side", name, folder], check=True, stdout=subprocess.DEVNULL)
            found[name] = json.loads((Path(folder) / f"{name}.json").read_text())
    weights = tfidf_weights(count_terms(*split_words(texts)))
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64) >= COSINE - 1e-9
    alike = {
        "star_hf, vectors": cosine,
        "semhash": cosine,
        "star_hf, words": (weights @ weights.T).toarray() >= 0.6 - 1e-9,
        "datasketch": jaccard([runs(text.lower().split()) for text in texts]),
        "text-dedup": jaccard([runs(re.split(r"\W", text.lower())) for text in texts]),
    }
    for name, pairs in alike.items():
        if name not in found:
            continue
        missed, wrong = judged(found[name]["kept"], pairs)
        seconds, kept = found[name]["seconds"], len(found[name]["kept"])
        print(f"{name:18} {seconds:7.2f} s  {kept:6} of {size} stay  missed {missed:5}  wrong {wrong:5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python of the environment that has semhash and datasketch")
    parser.add_argument("--text-dedup", help="the Python of the environment that has text-dedup; left out without it")
    parser.add_argument("--parquet", help="real rows: columns role and question")
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        name, folder = arguments.side[0], Path(arguments.side[1])
        tempfile.tempdir = str(folder)  # which the caller removes
        texts, vectors = json.loads((folder / "texts.json").read_text()), np.load(folder / "vectors.npy")
        (folder / f"{name}.json").write_text(json.dumps(timed(PEERS[name](texts, vectors))))
        return
    from dedup import corpus

    questions = dict.fromkeys(question for _, question in corpus(arguments.parquet, arguments.rows)[0])
    texts = list(questions)
    step = max(len(texts) // arguments.rows, 1)
    pythons = dict.fromkeys(("semhash", "datasketch"), arguments.peers or sys.executable)
    pythons |= {"text-dedup": arguments.text_dedup} if arguments.text_dedup else {}
    measured(texts[::step][: arguments.rows], pythons)


if __name__ == "__main__":
    main()
