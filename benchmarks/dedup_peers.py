"""Exact deduplication beside semhash and MinHash, on the same questions and vectors, held against the exact pairs.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install semhash datasketch
    python benchmarks/dedup_peers.py --peers /tmp/peers/bin/python --parquet as_read_by_star1.parquet --rows 8000

| way | a row goes if | found |
|---|---|---|
| star_hf, vectors | its cosine with an earlier row that stays is 0.7 or more | exactly |
| semhash | the same, of the same vectors, which are handed over | approximately, by USearch's HNSW graph |
| star_hf, words | its TF-IDF cosine with an earlier row that stays is 0.6 or more | exactly |
| datasketch | its Jaccard similarity with one, over runs of five words, is 0.7 or more | approximately, by MinHash |

The last is the way of text-dedup's MinHash, whose release 0.4.0 wants a urllib3 that others here cannot have. `missed`
are rows that stay although an earlier one that stays is like them, `wrong` those that go although none that stays is,
both by the way's own measure over all pairs. Seconds are without encoding.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


COSINE, JACCARD, RUN, PERMUTATIONS = 0.7, 0.7, 5, 256


def timed(work: Callable[[], list[int]]) -> dict[str, object]:
    """The rows that stay, and how long it took to find them."""
    start = time.perf_counter()
    kept = work()
    return {"kept": kept, "seconds": time.perf_counter() - start}


def runs(text: str) -> set[str]:
    words = text.lower().split()
    return {" ".join(words[i : i + RUN]) for i in range(max(len(words) - RUN + 1, 1))}


def semhash(texts: list[str], vectors: np.ndarray) -> list[int]:
    from semhash import SemHash

    place = {text: number for number, text in enumerate(texts)}

    class Given:
        def encode(self, given: list[str], **unused: object) -> np.ndarray:
            return vectors[[place[text] for text in given]]

    return [place[text] for text in SemHash.from_records(texts, model=Given()).self_deduplicate(COSINE).selected]


def datasketch(texts: list[str], vectors: np.ndarray) -> list[int]:
    from datasketch import MinHash, MinHashLSH

    index, kept = MinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS), []
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=PERMUTATIONS)
        signature.update_batch([run.encode() for run in runs(text)])
        if not index.query(signature):
            index.insert(number, signature)
            kept.append(number)
    return kept


PEERS = {"semhash": semhash, "datasketch": datasketch}


def judged(kept: list[int], alike: np.ndarray) -> tuple[int, int]:
    """Rows that are missed and rows that go wrongly, given who is like whom."""
    stays = np.zeros(len(alike), bool)
    stays[kept] = True
    like_kept = (np.tril(alike, -1) & stays).any(1)
    return int((stays & like_kept).sum()), int(
        (~stays & ~(alike & stays & ~np.eye(len(alike), dtype=bool)).any(1)).sum()
    )


def measured(texts: list[str], peers: str) -> None:
    """Run all ways and print what each came to."""
    from scipy.sparse import csr_matrix

    from star_hf.encoders import make_encoder
    from star_hf.similarity.embeddings import embedding_self_join
    from star_hf.similarity.pairs import greedy_keep
    from star_hf.similarity.tfidf import term_counts, tfidf_weights, threshold_self_join
    from star_hf.similarity.vectors import embed

    vectors = embed(texts, make_encoder(), on_progress=lambda done, total: print(f"encoded {done} of {total}"))
    size = len(texts)
    found = {
        "star_hf, vectors": timed(
            lambda: np.flatnonzero(greedy_keep(embedding_self_join(vectors, COSINE), size)).tolist()
        ),
        "star_hf, words": timed(
            lambda: np.flatnonzero(
                greedy_keep(threshold_self_join(tfidf_weights(term_counts(texts)), 0.6), size)
            ).tolist()
        ),
    }
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", vectors)
        (Path(folder) / "texts.json").write_text(json.dumps(texts))
        for name in PEERS:
            subprocess.run([peers, __file__, "--side", name, folder], check=True, stdout=subprocess.DEVNULL)
            found[name] = json.loads((Path(folder) / f"{name}.json").read_text())
    weights = tfidf_weights(term_counts(texts))
    sets = [runs(text) for text in texts]
    known = {run: number for number, run in enumerate(sorted(set().union(*sets)))}
    owners = np.repeat(np.arange(size), [len(own) for own in sets])
    has = csr_matrix((np.ones(len(owners)), (owners, [known[run] for own in sets for run in own])), (size, len(known)))
    shared = (has @ has.T).toarray()
    either = np.add.outer(shared.diagonal(), shared.diagonal()) - shared
    cosine = vectors.astype(np.float64) @ vectors.T.astype(np.float64) >= COSINE - 1e-9
    alike = {
        "star_hf, vectors": cosine,
        "semhash": cosine,
        "star_hf, words": (weights @ weights.T).toarray() >= 0.6 - 1e-9,
        "datasketch": shared >= JACCARD * either - 1e-9,
    }
    for name, pairs in alike.items():
        missed, wrong = judged(found[name]["kept"], pairs)
        seconds, kept = found[name]["seconds"], len(found[name]["kept"])
        print(f"{name:18} {seconds:7.2f} s  {kept:6} of {size} stay  missed {missed:5}  wrong {wrong:5}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="the Python of the environment that has semhash and datasketch")
    parser.add_argument("--parquet", help="real rows: columns role and question")
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        name, folder = arguments.side[0], Path(arguments.side[1])
        texts, vectors = json.loads((folder / "texts.json").read_text()), np.load(folder / "vectors.npy")
        (folder / f"{name}.json").write_text(json.dumps(timed(lambda: PEERS[name](texts, vectors))))
        return
    from dedup import corpus

    questions = dict.fromkeys(question for _, question in corpus(arguments.parquet, arguments.rows)[0])
    texts = list(questions)
    step = max(len(texts) // arguments.rows, 1)
    measured(texts[::step][: arguments.rows], arguments.peers or sys.executable)


if __name__ == "__main__":
    main()
