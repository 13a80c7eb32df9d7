"""Speed of making vectors: `embed` against sentence-transformers' own `encode`, by PyTorch and as an ONNX graph.

    python benchmarks/encoding.py --parquet as_read_by_star1.parquet     # real questions, in a column `question`
    python benchmarks/encoding.py --rows 300                             # seeded synthetic ones

All encode the same distinct texts with the packaged MiniLM on the processor, in turns, after one call to warm up.
OMP_NUM_THREADS sets the threads of both. The graph needs the package onnx, and is left out without it.
"""

import argparse
import random
import tempfile
import time
from importlib.util import find_spec

import numpy as np


def questions(parquet: str | None, rows: int) -> list[str]:
    """Distinct questions in a random order."""
    draw = random.Random(0)
    if parquet is None:
        return [
            f"{n} " + " ".join(f"word{draw.randrange(3000)}" for _ in range(draw.randint(4, 60))) for n in range(rows)
        ]
    import pyarrow.parquet as pq

    texts = list(dict.fromkeys(pq.read_table(parquet, columns=["question"])["question"].to_pylist()))
    return draw.sample(texts, min(rows, len(texts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parquet")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=2)
    arguments = parser.parse_args()

    from sentence_transformers import SentenceTransformer

    from star_hf.similarity.encoders import SentenceEncoder, packaged_model
    from star_hf.similarity.onnx import OnnxEncoder, export_onnx
    from star_hf.similarity.vectors import embed

    texts = questions(arguments.parquet, arguments.rows)
    theirs = SentenceTransformer(str(packaged_model()), device="cpu")
    torch = SentenceEncoder(device="cpu")
    sides = {
        "sentence-transformers": lambda some: theirs.encode(some, normalize_embeddings=True, show_progress_bar=False),
        "embed": lambda some: embed(some, torch),
    }
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("onnx") is not None:
            graph = OnnxEncoder(str(export_onnx(folder)))
            sides["embed, onnx"] = lambda some: embed(some, graph)
        vectors = {name: side(texts[:32]) for name, side in sides.items()}
        seconds = {name: [] for name in sides}
        for _ in range(arguments.runs):
            for name, side in sides.items():
                start = time.perf_counter()
                vectors[name] = side(texts)
                seconds[name].append(time.perf_counter() - start)
    base = min(seconds["sentence-transformers"])
    print(f"{len(texts)} texts of {np.mean([len(text) for text in texts]):.0f} characters on average")
    for name, each in seconds.items():
        away = np.abs(vectors[name] - vectors["sentence-transformers"]).max()
        took = ", ".join(f"{second:.2f}" for second in each)
        print(f"{name:22} {took} s  {base / min(each):.2f} times as fast  largest difference {away:.1e}")


if __name__ == "__main__":
    main()
