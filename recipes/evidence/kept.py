"""docs/results.md and its pictures from what the arms of `make evidence` left; no model is asked here.

python recipes/evidence/page.py --work runs/evidence   # keep what is small in docs/results/, and write the page
python recipes/evidence/page.py                        # only write the page, from docs/results/
"""

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from star_hf.errors import StarError
from star_hf.evaluation.judge_studies.calibration import Calibration
from star_hf.evaluation.results.folder import ResultsFolder
from star_hf.training.record import RECORD
from star_hf.utils.files import read_json, sha256_of, write_json
from star_hf.utils.options import read_yaml


HERE = Path(__file__).resolve().parent
RESULTS = "scores.csv"
KEY = ["attack", "benchmark", "item_id"]


def keep(work: Path, kept: Path, arms: Iterable[str]) -> None:
    """Copy what is small and holds no text of a model: results, training records, and one line per response."""
    lines, losses = [], []
    for arm in arms:
        for attack in ("plain", "prefill", "hijack"):
            if (work / arm / attack / "results.json").exists():
                lines += _scores(arm, attack, ResultsFolder(work / arm / attack))
                write_json(
                    kept / arm / f"{attack}.json", _portable(read_json(work / arm / attack / "results.json"), work)
                )
        if (work / arm / "losses.json").exists():
            found = read_json(work / arm / "losses.json")["losses"]
            losses += [{"arm": arm, "item_id": id_, "loss": round(loss, 5)} for id_, loss in found.items()]
        if (work / arm / "model" / RECORD).exists():
            write_json(kept / arm / RECORD, _portable(read_json(work / arm / "model" / RECORD), work))
    pd.DataFrame(lines).to_csv(kept / RESULTS, index=False)
    pd.DataFrame(losses).to_csv(kept / "losses.csv", index=False)


def _portable(data: dict[str, Any], work: Path) -> dict[str, Any]:
    """Without the place of the work folder on this machine, and without texts of the training data."""
    data = json.loads(
        json.dumps(data).replace(str(work.absolute()), "runs/evidence").replace(str(work), "runs/evidence")
    )
    for private in ("first_labels", "last_labels"):
        data.get("preflight", {}).pop(private, None)
    return data


def _scores(arm: str, attack: str, folder: ResultsFolder) -> Iterator[dict[str, Any]]:
    """One line per response: the hash of what was asked, and whether it refuses, or why nobody can tell."""
    verdicts = {
        (row["benchmark"], row["item_id"]): row for row in folder.verdicts.to_list() if row["part"] == "answer"
    }
    for row in folder.responses.to_list():
        verdict = verdicts[row["benchmark"], row["item_id"]]
        label = verdict["label"]
        yield {
            "arm": arm,
            "attack": attack,
            "benchmark": row["benchmark"],
            "item_id": row["item_id"],
            "asked": sha256_of(row["prompt"].encode())[:8],
            "refused": "" if label is None else int(label.endswith("refusal")),
            "failure": verdict["failure"] or "",
            "thinks": int(bool(row["reasoning"]) or row["failure"] == "unclosed"),
            "tokens": row["tokens"],
        }


class Kept:
    """What a folder of kept results holds."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One line per response, checked: every arm was asked the same questions."""
        table = pd.read_csv(self.folder / RESULTS, dtype={"item_id": str, "asked": str}, keep_default_na=False)
        table["refused"] = pd.to_numeric(table["refused"], errors="coerce")
        for asked, rows in table.groupby(KEY[:2]):
            seen = {arm: sorted(zip(of["item_id"], of["asked"], strict=True)) for arm, of in rows.groupby("arm")}
            for (one, first), (other, second) in pairwise(seen.items()):
                if first != second:
                    raise StarError(
                        f"{one} and {other} were not asked the same questions: {', '.join(asked)}.",
                        "Run `make evidence` to the end.",
                    )
        return table

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Nats per token of each solution, one column per arm."""
        table = pd.read_csv(self.folder / "losses.csv", dtype={"item_id": str})
        return table.pivot(index="item_id", columns="arm", values="loss")

    @cached_property
    def about(self) -> dict[str, Any]:
        """The recipe, when and on what it was run."""
        return read_json(self.folder / "run.json")

    @cached_property
    def names(self) -> dict[str, str]:
        """What the page calls the arms with responses, in the recipe's order."""
        there = set(self.scores["arm"])
        return {arm: own["title"] for arm, own in self.about["arms"].items() if arm in there}

    @property
    def first(self) -> str:
        """The untouched model."""
        return next(iter(self.names))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Which arm is compared with which other."""
        return [
            (arm, other) for arm in self.names for other in self.about["arms"][arm]["against"] if other in self.names
        ]

    @cached_property
    def judge(self) -> list[Calibration]:
        """How the judge compared with people, per model that answered."""
        studies = read_yaml(HERE / "judge_error.yaml")["studies"]
        return [Calibration(judge="refusal", failures={}, **study) for study in studies]

    def record(self, arm: str) -> dict[str, Any] | None:
        """The record of an arm's training."""
        path = self.folder / arm / RECORD
        return read_json(path) if path.exists() else None

    def results(self, arm: str, attack: str = "plain") -> dict[str, Any]:
        """An arm's `results.json`."""
        return read_json(self.folder / arm / f"{attack}.json")

    def of(self, arm: str, attack: str, benchmark: str) -> pd.DataFrame:
        """An arm's responses to one benchmark, by item."""
        rows = self.scores
        rows = rows[(rows["arm"] == arm) & (rows["attack"] == attack) & (rows["benchmark"] == benchmark)]
        return rows.set_index("item_id").sort_index()

    def paired(self, first: str, second: str, place: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
        """The verdicts of two arms on the questions on which both have one."""
        one, other = self.of(first, *place)["refused"], self.of(second, *place)["refused"]
        both = one.notna() & other.notna()
        return one[both].to_numpy(), other[both].to_numpy()
