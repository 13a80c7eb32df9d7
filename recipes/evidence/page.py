"""docs/results.md and its picture from what the arms of `make evidence` left; no model is asked here.

python recipes/evidence/page.py --work runs/evidence   # keep what is small in docs/results/, and write the page
python recipes/evidence/page.py                        # only write the page, from docs/results/
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from kept import Kept

from star_hf.evaluation.judge_studies.correction import corrected_difference, corrected_rate
from star_hf.evaluation.results.statistics import Estimate, bootstrap_mean, difference_of, paired_difference, rate
from star_hf.training.record import RECORD
from star_hf.utils.figures import COLOURS, new_figure, save_figure
from star_hf.utils.files import write_text


HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
SETS = {
    ("plain", "strongreject"): "StrongREJECT",
    ("plain", "jbb"): "JailbreakBench",
    ("plain", "xstest_unsafe"): "XSTest, unsafe",
    ("prefill", "strongreject"): "StrongREJECT, prefilled",
    ("hijack", "strongreject"): "StrongREJECT, hijacked",
    ("plain", "xstest"): "XSTest, safe",
}
"""What is asked, and its name. A refusal is desired, but for the last."""


def page(kept: Kept) -> str:
    """The text of results.md: page.md.j2 with its tables."""
    templates = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, trim_blocks=True)
    plain = kept.results(kept.first)["generation"]["benchmarks"]
    text = templates.get_template("page.md.j2").render(
        about=kept.about,
        missing=[own["title"] for arm, own in kept.about["arms"].items() if arm not in kept.names],
        names=kept.names,
        max_tokens=next(iter(plain.values()))["max_tokens"],
        observed=rates(kept, rate),
        corrected=rates(kept, lambda verdicts: corrected_rate(verdicts, kept.judge)),
        differences={pair: differences(kept, *pair) for pair in kept.pairs},
        reasoning=reasoning(kept),
        values=values(kept),
        trainings=trainings(kept),
    )
    return text.rstrip() + "\n"


def rates(kept: Kept, estimate: Callable[[np.ndarray], Estimate]) -> str:
    """How often each arm refuses, by what is asked, and how well it tells unsafe from safe."""
    rows, of = [], {}
    for place, title in SETS.items():
        of[place] = found = [estimate(kept.of(arm, *place)["refused"].dropna().to_numpy()) for arm in kept.names]
        if any(each.n for each in found):
            rows.append([f"{title} ({len(kept.of(kept.first, *place))})", *map(_cell, found)])
    apart = map(difference_of, of["plain", "xstest"], of["plain", "xstest_unsafe"])
    rows.append(["XSTest, unsafe minus safe", *map(_change, apart)])
    return _table(["refused, %", *kept.names.values()], rows)


def differences(kept: Kept, second: str, first: str) -> str:
    """One arm minus another on the questions on which both have a value."""
    rows = []
    for place, title in SETS.items():
        one, two = kept.paired(first, second, place)
        if len(one):
            seen = paired_difference(one, two)
            moved = f"+{seen.better} −{seen.worse}"
            corrected = _change(corrected_difference(one, two, kept.judge))
            rows.append([title, _change(seen), corrected, f"{seen.p_value:.2g}", moved, str(seen.n)])
    return _table(["refused", "as judged", "corrected", "p", "more, fewer", "questions"], rows)


def reasoning(kept: Kept) -> str:
    """How well each arm predicts the solutions of MATH-500."""
    rows = []
    for arm in (arm for arm in kept.names if arm in kept.losses):
        own, change = bootstrap_mean(kept.losses[arm]), paired_difference(kept.losses[kept.first], kept.losses[arm])
        words = "" if arm == kept.first else f"{change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
        rows.append([kept.names[arm], f"{own.value:.3f} ({own.low:.3f} to {own.high:.3f})", words, str(own.n)])
    return _table(["nats per token", "loss", f"minus {kept.names[kept.first]}", "problems"], rows)


def values(kept: Kept) -> str:
    """What has no value, per arm, and what StrongREJECT's rate is if none of that refuses."""
    rows = []
    for arm in kept.names:
        own = kept.scores[kept.scores["arm"] == arm]
        failures = own.loc[own["failure"] != "", "failure"].value_counts()
        why = ", ".join(f"{count} {name}" for name, count in failures.items()) or "none"
        all_asked = rate(kept.of(arm, "plain", "strongreject")["refused"].fillna(0))
        thinks = f"{100 * own['thinks'].mean():.0f}"
        rows.append([kept.names[arm], str(len(own)), why, thinks, f"{own['tokens'].median():.0f}", _cell(all_asked)])
    return _table(["", "asked", "no value", "think first, %", "median tokens", "StrongREJECT, of all asked"], rows)


def trainings(kept: Kept) -> str:
    """What each arm was trained on."""
    rows = []
    for arm in kept.names:
        if record := kept.record(arm):
            losses = [entry["loss"] for entry in record["log_history"] if entry.get("loss") is not None]
            check = record["preflight"]
            rows.append(
                [
                    f"[{kept.names[arm]}](results/{arm}/{RECORD})",
                    str(check["rows"]),
                    f"{check['tokens']:,}",
                    str(check["updates"]),
                    f"{float(losses[0]):.2f} to {float(losses[-1]):.2f}",
                    f"{record['seconds'] / 60:.0f}",
                    f"`{record['datasets'][0]['sha256'][:12]}`",
                ]
            )
    return _table(["training", "rows", "tokens", "updates", "loss", "minutes", "SHA-256 of the rows"], rows)


def _cell(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f"{100 * estimate.value:.0f} ({100 * estimate.low:.0f} to {100 * estimate.high:.0f})"


def _change(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    text = f"{100 * estimate.value:+.0f} ({100 * estimate.low:+.0f} to {100 * estimate.high:+.0f})"
    return text if estimate.low <= 0 <= estimate.high else f"**{text}**"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, align, *rows])


def draw(kept: Kept, path: Path) -> Path:
    """How often each arm refuses, by what is asked, with intervals; on white, so that it can be read on black too."""
    figure = new_figure(figsize=(8, 4.2), dpi=130)
    axes = figure.add_subplot()
    for number, arm in enumerate(kept.names):
        found = [rate(kept.of(arm, *place)["refused"].dropna()) for place in SETS]
        there = [(row, share) for row, share in enumerate(found) if share.value is not None]
        offset = (number - (len(kept.names) - 1) / 2) * 0.7 / len(kept.names)
        axes.errorbar(
            [100 * share.value for _, share in there],
            [row + offset for row, _ in there],
            xerr=np.array([[100 * (s.value - s.low), 100 * (s.high - s.value)] for _, s in there]).T,
            fmt="o",
            markersize=5,
            capsize=3,
            color=COLOURS[number],
            label=kept.names[arm].replace("`", ""),
        )
    titles = [*SETS.values()]
    axes.set_yticks(range(len(SETS)), [*titles[:-1], f"{titles[-1]} (to be low)"])
    axes.set_ylim(len(SETS) - 0.5, -0.5)
    axes.axhspan(len(SETS) - 1.5, len(SETS) - 0.5, color="#f3f3f3")
    axes.set_xlim(-2, 102)
    axes.set_xlabel("% of answers that refuse, with 95 % intervals")
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside upper center", ncols=3, fontsize=9, frameon=False)
    return save_figure(figure, path)


def write(kept: Kept, docs: Path) -> None:
    """Write results.md into a folder, and its picture beside what is kept."""
    draw(kept, kept.folder / "results.png")
    write_text(docs / "results.md", page(kept))


def main() -> None:
    """Write page and picture again from docs/results/."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=Path, default=DOCS, help="the folder of results/ and results.md")
    docs = parser.parse_args().docs
    write(Kept(docs / "results"), docs)


if __name__ == "__main__":
    main()
