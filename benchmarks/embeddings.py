"""Time and peak memory of the embedding self-join, the vectors being given.

    python benchmarks/embeddings.py --rows 50000
    python benchmarks/embeddings.py --rows 530000     # the paper's size

Vectors are seeded: 384 dimensions whose weight falls as the square root of their number, around half as many centres
as there are rows, so that most rows have a near-duplicate. They stand for a model's, and are not measured from one.
"""

import argparse
import json
import resource
import time

import numpy as np

from star_hf.similarity.embeddings import embedding_join


DIMENSIONS = 384


def vectors(size: int) -> np.ndarray:
    """Vectors of length one, shape `(size, DIMENSIONS)`, in float32."""
    draw = np.random.default_rng(0)
    weight = np.arange(1, DIMENSIONS + 1, dtype=np.float32) ** -0.5
    drawn = draw.standard_normal((size // 2, DIMENSIONS), np.float32)[draw.integers(0, size // 2, size)]
    for start in range(0, size, 4096):
        part = drawn[start : start + 4096]
        part += 0.3 * draw.standard_normal(part.shape, np.float32)
        part *= weight
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--json", action="store_true", help="print one object")
    arguments = parser.parse_args()
    given = vectors(arguments.rows)
    start, before = time.perf_counter(), time.process_time()
    found = len(embedding_join(given, None, arguments.threshold))
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if arguments.json:
        print(json.dumps({"rows": arguments.rows, "seconds": seconds, "cpu": cpu, "peak_mb": peak}))
        return
    print(f"{arguments.rows:7} rows, {found:7} pairs  {seconds:8.2f} s  {cpu:8.2f} s of CPU  {peak:8.0f} MB")


if __name__ == "__main__":
    main()
