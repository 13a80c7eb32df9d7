"""How the cost of deduplication grows from 20,000 rows to the paper's 530,000, as a picture with the exponents.

    python benchmarks/growth.py --parquet as_read_by_star1.parquet growth.png    # some ten minutes on two cores

Each point is a process of its own: `dedup.py --ours-only` for words and TF-IDF, over real rows and seeded variations,
and `embeddings.py` for the join of given vectors. An exponent is the slope of the logarithms: 2 is all pairs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np


SIZES = (20_000, 45_000, 100_000, 230_000, 530_000)
HERE = Path(__file__).parent


def point(script: str, *options: str) -> dict[str, float]:
    """Measure one size in a process of its own."""
    command = [sys.executable, str(HERE / script), *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--parquet", required=True, help="real rows, of which the larger corpora are made")
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    arguments = parser.parse_args()
    sizes = [size for size in SIZES if size <= arguments.largest]
    words = ("dedup.py", "--only", "ours", "--parquet", arguments.parquet, "--rows")
    kinds = {"words and TF-IDF": words, "embeddings, vectors given": ("embeddings.py", "--json", "--rows")}

    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, label in zip(figure.subplots(1, 2), ("seconds", "MB at most"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=label)
        axes.grid(alpha=0.3)
    for name, command in kinds.items():
        points = []
        for size in sizes:
            points.append(point(*command, str(size)))
            print(
                f"{name}: {points[-1]['rows']:7} rows {points[-1]['seconds']:8.2f} s {points[-1]['peak_mb']:6.0f} MB"
            )
        rows = [found["rows"] for found in points]
        for axes, column in zip(figure.axes, ("seconds", "peak_mb"), strict=True):
            values = [found[column] for found in points]
            exponent = np.polyfit(np.log(rows), np.log(values), 1)[0]
            axes.plot(rows, values, marker="o", label=f"{name}: rows^{exponent:.2f}")
            axes.legend(fontsize=8)
    figure.savefig(arguments.picture, dpi=110)


if __name__ == "__main__":
    main()
