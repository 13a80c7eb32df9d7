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


def draw(found: dict[str, list[dict[str, float]]], picture: Path) -> None:
    """Seconds and memory of each kind by rows."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, column, label in zip(
        figure.subplots(1, 2), ("seconds", "peak_mb"), ("seconds", "MB at most"), strict=True
    ):
        for name, points in found.items():
            rows, values = ([point[key] for point in points] for key in ("rows", column))
            exponent = np.polyfit(np.log(rows), np.log(values), 1)[0]
            axes.plot(rows, values, marker="o", label=f"{name}: rows^{exponent:.2f}")
        axes.set(xscale="log", yscale="log", xlabel="rows", ylabel=label, xticks=SIZES)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda rows, _: f"{rows / 1000:.0f}K"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.minorticks_off()
        axes.yaxis.set_minor_formatter("")
        if column == "peak_mb":
            axes.set(yscale="linear", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--parquet", required=True, help="real rows, of which the larger corpora are made")
    parser.add_argument("--largest", type=int, default=SIZES[-1])
    arguments = parser.parse_args()
    words = ("dedup.py", "--only", "ours", "--parquet", arguments.parquet, "--rows")
    kinds = {"words and TF-IDF": words, "embeddings, vectors given": ("embeddings.py", "--json", "--rows")}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for name, command in kinds.items():
        for size in (size for size in SIZES if size <= arguments.largest):
            one = point(*command, str(size))
            found[name].append(one)
            print(f"{name}: {one['rows']:7} rows {one['seconds']:8.2f} s {one['peak_mb']:6.0f} MB")
    draw(found, arguments.picture)


if __name__ == "__main__":
    main()
