"""The arms of `make evidence`: each model is trained, asked and measured, once. What is done already is kept.

    python recipes/evidence/arms.py                                  # everything from the Hub
    python recipes/evidence/arms.py --data STAR-1.json --sources DIR # from local copies: DIR/StrongREJECT/...
    python recipes/evidence/arms.py --model org/other --training mine.yaml --work runs/evidence-other

Everything is in the work folder: models, answers, and `results.md`, which `page.py` can make again. An arm that is not
asked yet is named there as missing; the same command goes on with it.
"""

import argparse
import logging
import math
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets
from kept import Kept, keep
from page import write

import star_hf
from star_hf.demo.gguf import model_in
from star_hf.demo.train import unpack
from star_hf.errors import ConfigError
from star_hf.evaluation.evaluate import Options, evaluate
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Model
from star_hf.evaluation.generation.weights import fingerprint, locate
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.tasks.benchmarks import BENCHMARKS
from star_hf.evaluation.tasks.loading import load_items
from star_hf.evaluation.tasks.profiles import load_evaluation
from star_hf.llm.embedded.weights import MODEL
from star_hf.sources.reading import read_rows, read_source
from star_hf.training.data import digest, load_rows
from star_hf.training.options import outcome_options
from star_hf.training.recipe import read_options
from star_hf.training.record import RECORD
from star_hf.training.trainers.sft import parse, train
from star_hf.transforms.select import select
from star_hf.utils.files import read_json, sha256_of, write_json
from star_hf.utils.options import Strict, read_yaml, validated
from star_hf.utils.progress import track


HERE = Path(__file__).resolve().parent
ASKED = "evidence.json"
"""In a model's folder: what its training started from, and the hash of the record of it."""
logger = logging.getLogger(__name__)


class Arm(Strict):
    """One model: untouched without `select`. The page calls it `title`, and compares it with the arms in `against`."""

    title: str
    against: tuple[str, ...] = ()
    select: str | None = None
    benign: bool = False
    think: bool = True


class Evidence(Strict):
    """The options of evidence.yaml."""

    model: str
    data: str
    rows: int
    longest: int | None
    seed: int
    training: str
    asking: str
    judge: str
    arms: dict[str, Arm]
    questions: dict[str, int | None]
    attacks: dict[str, int]
    solutions: int


@dataclass(frozen=True)
class Place:
    """Where things are: the work folder, the local copies of the benchmarks."""

    work: Path
    sources: Path | None


def read_recipe(path: Path = HERE / "evidence.yaml", **replaced: str | None) -> Evidence:
    """The recipe, with some options replaced; paths in it are relative to it."""
    given = {**read_yaml(path), **{name: value for name, value in replaced.items() if value is not None}}
    given |= {name: str(path.parent / given[name]) for name in ("training", "asking")}
    return validated(Evidence, given, path, "Compare it with recipes/evidence/evidence.yaml.")


def star1_rows(recipe: Evidence) -> Dataset:
    """STAR-1's published rows that are not too long, from a local file or the Hub."""
    if Path(recipe.data).is_file():
        rows = Dataset.from_list(list(read_rows(Path(recipe.data), (), {})))
    else:
        rows = star_hf.load("star_1") if recipe.data == "UCSC-VLAA/STAR-1" else _from_hub(recipe.data)
    longest = recipe.longest or math.inf
    return rows.filter(
        lambda question, response: len(question) + len(response) <= longest, input_columns=["question", "response"]
    )


def _from_hub(name: str) -> Dataset:
    from datasets import load_dataset

    return load_dataset(name, split="train")


def rows_of(arm: Arm, recipe: Evidence) -> Dataset:
    """The rows that an arm is trained on: `question` and `response`."""
    pool = star1_rows(recipe)
    if len(pool) < recipe.rows:
        raise ConfigError(
            f"{recipe.data} has {len(pool)} rows that are short enough, not {recipe.rows}.", "Set `rows`."
        )
    chosen = select(pool, size=recipe.rows, strategy=arm.select, seed=recipe.seed).rows
    parts = [chosen.select_columns(["question", "response"])]
    if arm.benign:
        parts.append(star_hf.load("starter", "harmless").select_columns(["question", "response"]))
    return concatenate_datasets(parts)


def trained(name: str, arm: Arm, recipe: Evidence, place: Place, base: Path) -> Path:
    """The folder of an arm's model, trained unless one is there with the same base, rows and settings."""
    folder, data = place.work / name / "model", place.work / name / "rows.jsonl"
    data.parent.mkdir(parents=True, exist_ok=True)
    rows_of(arm, recipe).to_json(data, force_ascii=False)
    options = ["--config", recipe.training, "--model_name_or_path", str(base), "--output_dir", str(folder)]
    asked = parse([*options, "--think", str(arm.think).lower(), "--seed", str(recipe.seed)])
    from trl.scripts.utils import DatasetConfig

    asked.data.datasets = [DatasetConfig(path=str(data), columns=["question", "response"])]
    wanted = {"base": fingerprint(base), "rows": digest(load_rows(asked)), "options": outcome_options(asked)}
    if not is_done(folder, wanted):
        train(asked)
        write_json(folder / ASKED, {**wanted, "record": sha256_of(folder / RECORD)})
    return folder


def is_done(folder: Path, wanted: dict[str, Any]) -> bool:
    """Whether a folder has a whole training from this base, on these rows and with these options."""
    if not (folder / ASKED).exists():
        return False
    done = read_json(folder / ASKED)
    record = done.pop("record", None)
    same = done == wanted and (folder / RECORD).exists() and record == sha256_of(folder / RECORD)
    if not same:
        logger.warning("%s was trained in another way than the recipe says: it is trained again.", folder)
    return same


def asked_model(folder: Path, packaged: bool) -> Model:
    """A model ready to be asked: on a GPU as it is, on a CPU as a GGUF file if it is the packaged one."""
    import torch

    if torch.cuda.is_available():
        return InProcess(str(folder), batch_size=64, dtype="bfloat16")
    return model_in(folder) if packaged else InProcess(str(folder), batch_size=16)


def ask(name: str, folder: Path, recipe: Evidence, place: Place) -> None:
    """Ask one arm everything, and judge it: a results folder for the plain questions and one for each attack."""
    model, judges = asked_model(folder, recipe.model == MODEL), [load_judge(recipe.judge)]
    profile = load_evaluation(recipe.asking)
    attacked = {attack: {"strongreject": limit} for attack, limit in recipe.attacks.items()}
    for attack, questions in {None: recipe.questions, **attacked}.items():
        for task, limit in questions.items():
            options = Options(data_dir=place.sources, limit=limit, attack=attack, judge_cut_answers=True)
            where = place.work / name / (attack or "plain")
            evaluate(model, [task], where, evaluation=profile, judges=judges, options=options)


def losses(folder: Path, items: list[tuple[str, str, str]]) -> dict[str, float]:
    """How badly a model predicts the reference solutions of problems: nats per token of each, by the problem's id.

    The text is the problem and its solution, without a chat template: what is measured is what the model knows, not in
    which form it answers.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    found = {}
    with torch.inference_mode(), track("solutions", len(items)) as bar:
        for id_, problem, solution in items:
            start = tokenizer(f"Problem: {problem}\n\nSolution:", return_tensors="pt").input_ids
            end = tokenizer(f" {solution}", return_tensors="pt", add_special_tokens=False).input_ids
            tokens = torch.cat([start, end], dim=1)[:, :1024].to(device)
            logits = model(tokens).logits[0, start.shape[1] - 1 : -1]
            found[id_] = torch.nn.functional.cross_entropy(logits, tokens[0, start.shape[1] :]).item()
            bar.advance()
    return found


def solutions(recipe: Evidence, place: Place) -> list[tuple[str, str, str]]:
    """Problems of MATH-500 with their reference solutions: id, problem, solution."""
    drawn = {item.id: item.asked for item in load_items("math500", place.sources, recipe.solutions)}
    source = BENCHMARKS["math500"].source
    rows = read_source(replace(source, columns=(*source.columns, "solution")), place.sources, option="--sources")
    texts = {row["problem"]: row["solution"] for row in rows}
    return [(id_, problem, texts[problem]) for id_, problem in drawn.items()]


def measure_losses(name: str, folder: Path, recipe: Evidence, place: Place) -> None:
    """Keep [`losses`] of an arm, unless they are there for these weights and problems."""
    path, items = place.work / name / "losses.json", solutions(recipe, place)
    about = {"weights": fingerprint(folder), "problems": sha256_of(repr(items).encode())}
    if not path.exists() or {name: read_json(path).get(name) for name in about} != about:
        write_json(path, {**about, "losses": losses(folder, items)})


def main() -> None:
    """Run all arms that the command line asks for, each to its end, and keep what is small."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or a Hub id, in place of the packaged model")
    parser.add_argument("--data", help="STAR-1.json or another file or Hub id with its columns")
    parser.add_argument("--training", help="another recipe for the training, such as one for a GPU")
    parser.add_argument("--sources", type=Path, help="local copies of the benchmarks, DIR/NAME/FILE")
    parser.add_argument("--recipe", type=Path, default=HERE / "evidence.yaml")
    parser.add_argument("--arms", nargs="*", help="only these arms")
    parser.add_argument("--steps", nargs="*", default=STEPS, choices=STEPS)
    parser.add_argument("--work", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--note", default="", help="a sentence for the page, such as on the machine")
    parser.add_argument("--docs", type=Path, help="the folder of results.md and results/ (default: the work folder)")
    given = parser.parse_args()
    training = given.training and str(Path(given.training).absolute())
    recipe = read_recipe(given.recipe, model=given.model, data=given.data, training=training)
    place = Place(given.work, given.sources)
    base = unpack(place.work / "base") if recipe.model == MODEL else locate(recipe.model)[0]
    for name in given.arms or recipe.arms:
        arm = recipe.arms[name]
        folder = base if arm.select is None else trained(name, arm, recipe, place, base)
        if "ask" in given.steps:
            measure_losses(name, folder, recipe, place)
            ask(name, folder, recipe, place)
    if "ask" not in given.steps:
        return
    docs = given.docs or place.work
    write_json(docs / "results" / "run.json", about(recipe, given.note))
    keep(place.work, docs / "results", recipe.arms)
    write(Kept(docs / "results"), docs)


def about(recipe: Evidence, note: str = "") -> dict[str, Any]:
    """What the page says of the whole: the recipe, when, and on what."""
    import torch

    device = (
        torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} of a CPU's cores"
    )
    versions = ", ".join(f"{name} {version(name)}" for name in ("star_hf", "torch", "transformers", "trl"))
    return {
        **recipe.model_dump(exclude={"training", "asking"}),
        "epochs": read_options(recipe.training)["num_train_epochs"],
        "date": f"{datetime.now():%-d %B %Y}",
        "conditions": f"On {device}, with {versions}.",
        "note": note,
    }


STEPS = ("train", "ask")

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
