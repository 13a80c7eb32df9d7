"""A trained model, or results of one, as a release."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..cards.sections import Card
from ..errors import StarError
from ..evaluation.results.results import Results, load_results
from ..training.record import RECORD, TrainingRecord, load_record
from ..utils.files import read_json
from .api import ask, find, hub_api
from .model_card import is_hub_id, leaderboard_entries, model_card, model_index, results_section
from .release import Release, publish


__all__ = ["model_release", "publish_as_asked", "results_release"]

logger = logging.getLogger(__name__)

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
PATTERNS = (*WEIGHTS, "*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.png", "*.py")
PRIVATE = ("trainer_state.json", RECORD)
CURVE = "loss.png"
LEADERBOARD = ".eval_results/star_hf.yaml"
RESULTS = "star_results.json"
RESULTS_UNDER = "star_results_{}.json"


def model_release(
    folder: str | Path,
    repo_id: str,
    *,
    results: str | Path | None = None,
    base_results: str | Path | None = None,
    attack_results: Sequence[str | Path] = (),
    license: str | None = None,
) -> Release:
    """Make a release of the output folder of a training, such as of `recipes/sft.py`.

    Weights, tokenizer and configuration are published, with the record of the training without local folders;
    checkpoints, the optimiser's state and pickled arguments are not.

    Args:
        folder (`str` or `Path`): The folder.
        repo_id (`str`): The repository.
        results, base_results (`str` or `Path`, *optional*): Results folders of this model and of its base model.
        attack_results (`Sequence[str | Path]`): Results folders of this model under attacks.
        license (`str`, *optional*): The licence as the Hub spells it; the base model's by default.

    Raises:
        TrainingError: If the folder has no record of a training.
        SourceError: If a results folder cannot be read.
        StarError: If weights are missing or truncated, or results with and without an attack are mixed up.
    """
    folder = Path(folder)
    record = load_record(folder)
    _check_weights(folder)
    found = None if results is None else _without_attack(results)
    before = None if base_results is None else _without_attack(base_results)
    attacks = _under_attack(attack_results, found)
    license = license or _license_of(record.base_model["name"])
    files: dict[str, Path | bytes] = {
        path.name: path
        for pattern in PATTERNS
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name not in PRIVATE
    }
    record = _without_folders(record)
    files[RECORD] = record.to_json().encode()
    if found is not None:
        files |= _result_files(found, attacks, repo_id)
    warnings = [] if license else ["The base model's licence is unknown: give it with --license."]
    if found is None:
        warnings.append("No --results: the card will say that nothing was measured.")
    return Release(
        kind="model",
        name=folder.resolve().name,
        files=files,
        card=model_card(
            record,
            place=repo_id,
            license=license,
            adapter=(folder / "adapter_config.json").exists(),
            results=found,
            base=before,
            attacks=attacks,
            curve=CURVE if CURVE in files else None,
        ),
        facts={"training": {"base_model": record.base_model, "method": record.method, "mode": record.mode}},
        warnings=tuple(warnings),
    )


def publish_as_asked(options: Any) -> None:
    """Publish what a script of `recipes/` has trained, if the trainer's options say `push_to_hub`.

    By default the repository has the folder's name and belongs to the token's owner. Ends the program with one message
    if publishing fails; the model stays in its folder.
    """
    if not (options.push_to_hub and options.should_save):
        return
    folder = options.output_dir
    repo_id = options.hub_model_id or Path(folder).resolve().name
    try:
        if "/" not in repo_id:
            repo_id = f"{ask(f'publish the model {repo_id}', hub_api().whoami)['name']}/{repo_id}"
        done = publish(model_release(folder, repo_id), repo_id, private=options.hub_private_repo)
    except StarError as error:
        sys.exit(f"error: {error}")
    logger.info("Published as %s at %s.", done.url, done.tag)


def results_release(
    results: str | Path,
    repo_id: str,
    *,
    base_results: str | Path | None = None,
    attack_results: Sequence[str | Path] = (),
) -> Release:
    """Make a release of results for a model that is on the Hub: rates only, no responses.

    Takes results folders, as [`model_release`] does.
    """
    if find(hub_api(), repo_id, "model") is None:
        raise StarError(
            f"There is no model {repo_id}, or this token has no access to it.",
            "Publish the model first: `star-hf publish model FOLDER --repo-id ...`.",
        )
    found = _without_attack(results)
    base = None if base_results is None else _without_attack(base_results)
    attacks = _under_attack(attack_results, found)
    sections = {"results": f"## Results\n\n{results_section(found, base, attacks)}"}
    named = str(found.model["name"])
    other = named.split("/")[-1] != repo_id.split("/")[-1]
    return Release(
        kind="model",
        name=f"results-{found.profile}",
        files=_result_files(found, attacks, repo_id),
        card=Card(model_index(found, repo_id.split("/")[-1]), sections),
        warnings=(f"These are results of {named!r}, but will be published on {repo_id}.",) if other else (),
        partial=True,
    )


def _read(folder: str | Path) -> Results:
    """Results without the texts of a suite's rules: a policy of one's own may not be for the public."""
    found = load_results(folder)
    settings = {
        name: {key: value for key, value in each.items() if key != "rules"}
        for name, each in found.generation.get("benchmarks", {}).items()
    }
    return replace(found, generation={**found.generation, **({"benchmarks": settings} if settings else {})})


def _without_attack(folder: str | Path) -> Results:
    """Results without an attack, which would make the model look worse than it is."""
    found = _read(folder)
    if found.attack:
        raise StarError(
            f"{folder} has results under the attack {found.attack}.",
            "Give results without an attack there, and these as --attack-results.",
        )
    return found


def _under_attack(folders: Sequence[str | Path], beside: Results | None) -> list[Results]:
    """Results under attacks, to show beside those without."""
    if folders and beside is None:
        raise StarError("--attack-results without --results to compare them with.", "Give both.")
    attacks = [_read(folder) for folder in folders]
    for folder, found in zip(folders, attacks, strict=True):
        if not found.attack:
            raise StarError(f"{folder} has results without an attack.", "Give it as --results.")
    return [replace(found, generation={**found.generation, "attack": found.attack}) for found in attacks]


def _result_files(results: Results, attacks: Sequence[Results], repo_id: str) -> dict[str, Path | bytes]:
    """All rates; and an entry for leaderboards for the benchmarks that are on the Hub."""
    api = hub_api()
    named = {RESULTS: results, **{RESULTS_UNDER.format(Path(str(one.attack)).stem): one for one in attacks}}
    files: dict[str, Path | bytes] = {
        name: (json.dumps(asdict(one), indent=2, ensure_ascii=False) + "\n").encode() for name, one in named.items()
    }
    entries = leaderboard_entries(api, results, f"{api.endpoint}/{repo_id}")
    return files if entries is None else {**files, LEADERBOARD: entries}


def _check_weights(folder: Path) -> None:
    """Check the configuration, that every shard of the index is there, and that no file is truncated."""
    again = "Let the training finish, or give its output folder."
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise StarError(f"{folder} has neither config.json nor adapter_config.json.", again)
    weights = {path.name: path for pattern in WEIGHTS for path in folder.glob(pattern)}
    if not weights:
        raise StarError(f"{folder} has no weights.", again)
    for index in folder.glob("*.safetensors.index.json"):
        shards = set(read_json(index, again).get("weight_map", {}).values())
        if missing := sorted(shards - set(weights)):
            raise StarError(f"{folder} has no {', '.join(missing)}, which {index.name} lists.", again)
    for name, path in weights.items():
        if name.endswith(".safetensors") and not _is_whole(path):
            raise StarError(f"{path} is truncated or damaged: its size does not match its header.", again)


def _is_whole(path: Path) -> bool:
    """Whether a safetensors file is as long as its header says (https://github.com/huggingface/safetensors)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            return False
        try:
            header: dict[str, Any] = json.loads(file.read(length))
        except ValueError:
            return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return size == 8 + length + max(ends, default=0)


def _license_of(model: str) -> str | None:
    """The licence on the base model's card, if it can be read."""
    if not is_hub_id(model):
        return None
    try:
        info = find(hub_api(), model, "model")
    except StarError as error:
        logger.warning("The licence of %s cannot be read: %s", model, error.message)
        return None
    card = None if info is None else info.card_data
    return None if card is None else card.get("license")


def _without_folders(record: TrainingRecord) -> TrainingRecord:
    """The record with only the names of local folders, not their paths."""
    name = record.base_model["name"]
    return record.model_copy(
        update={
            "base_model": {**record.base_model, "name": name if is_hub_id(name) else Path(name).name},
            "datasets": [
                {**entry, "path": entry["path"] if is_hub_id(entry["path"]) else Path(entry["path"]).name}
                for entry in record.datasets
            ],
        }
    )
