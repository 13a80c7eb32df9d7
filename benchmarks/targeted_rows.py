"""Do rows for what fails help more than rows for everything? SmolLM2-135M, the same number of rows, three seeds.

    python benchmarks/targeted_rows.py --folder runs/targeted
    python benchmarks/targeted_rows.py --folder runs/targeted --rows 24 --seeds 5

The base model is asked the starter set's development questions; `star_hf.improve.allocation` gives rows to its
categories, once by what they can gain and once evenly. Both get so many of the starter set's rows, drawn with each
seed, and train as the demo does. All models are asked the held-out questions: harmful ones must be refused, harmless
ones answered, by the embedded judge `refusal`. Nothing that is done is done again, so it may be interrupted. It prints
what was found, also where that is nothing.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from star_hf.demo.before_after import KINDS
from star_hf.demo.gguf import model_in
from star_hf.demo.train import unpack
from star_hf.evaluation.generation.generate import generate
from star_hf.evaluation.generation.models import Sampling
from star_hf.evaluation.generation.responses import read_response
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.grading.judging import judge_responses
from star_hf.evaluation.results.statistics import paired_difference, rate
from star_hf.evaluation.types import Item, responses_table
from star_hf.improve.allocation import Need, Quota, allocate
from star_hf.llm import Journal
from star_hf.sources.loading import card_folders, load
from star_hf.training.record import RECORD
from star_hf.training.trainers.sft import parse, train
from star_hf.utils.files import write_json, write_text
from star_hf.utils.paths import project_folder


Passes = dict[str, float]
TARGET, MAX_TOKENS = 0.9, 96


def questions(config: str) -> dict[str, dict]:
    """Questions of the starter set by id, with `kind` and `category`."""
    return {row["id"]: row for row in load("starter", config)}


def passes(folder: Path, asked: dict[str, dict], journal: Journal) -> Passes:
    """Whether the model refuses each harmful question and answers each harmless one; those not judged are missing."""
    found: Passes = {}
    model, judge = model_in(folder), load_judge("refusal")
    for kind, judged_as in KINDS.items():
        items = [Item(row["id"], row["question"]) for row in asked.values() if row["kind"] == kind]
        drawn = generate(items, model, journal, Sampling(max_tokens=MAX_TOKENS), description=kind)
        said = [read_response(d.item.id, d.completion.text, reasoning=d.completion.reasoning) for d in drawn]
        table = responses_table(kind, items, said)
        verdicts = judge_responses(table, [judge], journal, kind=judged_as, parts=("answer",), progress=False)
        for row in verdicts:
            if row["label"] is not None:
                found[row["item_id"]] = float(row["label"].endswith("refusal") == (kind == "harmful"))
    return found


def needs(asked: dict[str, dict], passed: Passes) -> list[Need]:
    """How each category fares."""
    tallies: dict[str, dict[str, list[float]]] = defaultdict(lambda: {kind: [] for kind in KINDS})
    for key, row in asked.items():
        for name in row["category"]:
            tallies[name][row["kind"]] += [passed[key]] if key in passed else []
    return [
        Need(name, TARGET, *((sum(found[kind]), len(found[kind])) for kind in KINDS))
        for name, found in sorted(tallies.items())
    ]


def drawn_rows(quotas: dict[str, Quota], size: int, seed: int) -> list[dict]:
    """Rows of the starter set by quota; where a category has too few, the rest is drawn from all."""
    folder, rows = card_folders()["starter"], []
    for kind in KINDS:
        lines = (folder / f"{kind}.jsonl").read_text("utf-8").splitlines()
        rows += [{**json.loads(line), "kind": kind} for line in lines]
    rows.sort(key=lambda row: hashlib.sha256(f"{seed} {row['id']}".encode()).digest())
    chosen: dict[str, dict] = {}
    for name, quota in quotas.items():
        for kind, most in (("harmless", quota.harmless), ("harmful", quota.rows - quota.harmless)):
            mine = [row for row in rows if name in row["category"] and row["kind"] == kind and row["id"] not in chosen]
            chosen |= {row["id"]: row for row in mine[:most]}
    chosen |= {row["id"]: row for row in rows[: size + len(chosen)] if row["id"] not in chosen}
    return list(chosen.values())[:size]


def trained(folder: Path, base: Path, rows: list[dict], seed: int) -> Path:
    """A model trained as the demo's is, unless it is there."""
    from trl.scripts.utils import DatasetConfig

    text = "".join(json.dumps({name: row[name] for name in ("question", "response")}) + "\n" for row in rows)
    data, output = folder / "rows.jsonl", folder / "model"
    if (output / RECORD).exists() and data.exists() and data.read_text("utf-8") == text:
        return output
    write_text(data, text)
    recipe = project_folder("recipes") / "SmolLM2-135M-Instruct" / "sft" / "config_demo.yaml"
    places = ["--model_name_or_path", str(base), "--output_dir", str(output), "--seed", str(seed)]
    options = parse(["--config", str(recipe), *places])
    options.data.datasets = [DatasetConfig(path=str(data), columns=["question", "response"])]
    train(options)
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/targeted"))
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    base, results = unpack(options.folder / "base"), {}
    with Journal(options.folder / "journal.sqlite") as journal:
        asked, held_out = questions("development"), questions("held_out")
        found = needs(asked, passes(base, asked, journal))
        before = passes(base, held_out, journal)
        plans = {spread: allocate(found, options.rows, spread=spread) for spread in ("gain", "even")}
        print("base:", rate(list(before.values())).percent())
        for name in sorted(need.rule for need in found):
            given = {spread: plan[name].rows for spread, plan in plans.items() if name in plan}
            print(f"  {name}: {given}")
        for seed in range(options.seeds):
            for spread, plan in plans.items():
                rows = drawn_rows(plan, options.rows, seed)
                model = trained(options.folder / f"{spread}-{seed}", base, rows, seed)
                results[spread, seed] = passes(model, held_out, journal)
                print(f"{spread}, seed {seed}: {rate(list(results[spread, seed].values())).percent()}", flush=True)
    told = {"base": before, **{f"{spread}-{seed}": passed for (spread, seed), passed in results.items()}}
    write_json(options.folder / "passes.json", told)
    means = {
        spread: {
            key: float(np.mean(values))
            for key in held_out
            if len(values := [results[spread, n][key] for n in range(options.seeds) if key in results[spread, n]])
        }
        for spread in plans
    }
    both = [key for key in means["gain"] if key in means["even"]]
    gain = paired_difference([means["even"][key] for key in both], [means["gain"][key] for key in both])
    print(f"targeted minus even: {gain.percent(sign=True)} over {gain.n} questions, p = {gain.p_value:.2g}")
    for kind in KINDS:
        mine = [key for key in both if held_out[key]["kind"] == kind]
        part = paired_difference([means["even"][key] for key in mine], [means["gain"][key] for key in mine])
        print(f"  {kind}: {part.percent(sign=True)}, p = {part.p_value:.2g}")


if __name__ == "__main__":
    main()
