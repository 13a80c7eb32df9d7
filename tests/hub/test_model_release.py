"""Publishing a trained model and results of one: what a reader of the card, a leaderboard and the clients see."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, model_info

import standins
from hub import USER, Repo
from measured import tables
from star_hf.errors import SourceError, StarError, TrainingError
from star_hf.evaluation.results.results import Results
from star_hf.evaluation.results.summary import summarise
from star_hf.hub.model_release import model_release, publish_as_asked, results_release
from star_hf.hub.release import MANIFEST, publish
from star_hf.hub.verification import verify
from star_hf.training.record import TrainingRecord, load_record


ROOT = Path(__file__).resolve().parents[2]
NAME = f"{USER}/safer"
PREFLIGHT = {
    **{"template": "r1", "mended": True, "rows": 1000, "tokens": 383_000, "label_tokens": 290_000, "longest": 1174},
    **{
        "primed": 12,
        "misaligned": 0,
        "batch": 128,
        "updates": 40,
        "prefill": "<think>\n",
        "warnings": ["A warning | of the check."],
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A small model on disk with the record of a training."""
    folder = tmp_path_factory.mktemp("trained") / "safer"
    tokenizer = standins.small_tokenizer("r1")
    tokenizer.save_pretrained(folder)
    standins.small_model(tokenizer).save_pretrained(folder)
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "optimizer.pt").write_bytes(b"state")
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "trainer_state.json").write_text("{}")
    (folder / "loss.png").write_bytes(b"\x89PNG picture")
    TrainingRecord(
        star_hf="0.1.0",
        base_model={"name": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "revision": None},
        method="sft",
        mode="recommended",
        datasets=[
            {"path": "UCSC-VLAA/STAR-1", "name": None, "split": None, "rows": None, "sha256": "ab" * 32},
            {"path": str(folder / "own-data"), "name": None, "split": "train", "rows": None, "sha256": "ab" * 32},
        ],
        recipe={"learning_rate": 1e-5, "num_train_epochs": 5, "warmup_steps": None, "primer": "Safety first."},
        preflight=PREFLIGHT,
        log_history=[{"step": 1, "loss": 1.25}, {"step": 40, "loss": 0.5}],
        hardware={"device": "NVIDIA H100", "processes": 8},
        seconds=90.0,
        versions={"trl": "1.16.0"},
    ).save(folder)
    return folder


def measured(name: str, safe: list, refused: list) -> Results:
    """Results of two benchmarks that one of each judged."""
    run = {"model": {"name": name}, "profile": "recommended", "generation": {"temperature": 0.6}}
    judges = [{"name": "guard", "model": "a/guard", "at": "http"}]
    data = {"jbb": {"repo": "JailbreakBench/JBB-Behaviors", "revision": "c0ffee", "sha256": "0" * 64}}
    parts = [
        summarise(*tables(b, v), **run, judges=judges, data=data) for b, v in (("jbb", safe), ("xstest", refused))
    ]
    return replace(
        parts[0],
        benchmarks={name: value for part in parts for name, value in part.benchmarks.items()},
        averages={name: value for part in parts for name, value in part.averages.items()},
    )


@pytest.fixture
def results(tmp_path):
    """Folders of results of a tuned model, which is whole on jbb, and of its base."""
    measured("safer", [1] * 95 + [0] * 4 + ["truncated"], [1] * 40 + [0] * 10).save(tmp_path / "tuned")
    measured("base", [1] * 50 + [0] * 50, [1] * 48 + [0] * 2).save(tmp_path / "base")
    return tmp_path / "tuned", tmp_path / "base"


def test_a_published_model_loads_and_holds_no_checkpoint_pickle_or_folder(hub, trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    done = publish(model_release(trained, NAME), NAME)
    repo = hub.repo("models", NAME)
    assert repo.private and repo.tags == {done.tag: repo.sha()}
    files = repo.files()
    assert {"model.safetensors", "config.json", "tokenizer.json", "star_training.json", "loss.png"} <= set(files)
    assert not {"training_args.bin", "trainer_state.json", "checkpoint-5/optimizer.pt"} & set(files)
    assert not [path for path, data in files.items() if str(trained.parent).encode() in data]
    model = AutoModelForCausalLM.from_pretrained(NAME, revision=done.tag)
    local = AutoModelForCausalLM.from_pretrained(trained)
    assert all((left == right).all() for left, right in zip(model.parameters(), local.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(NAME).chat_template == AutoTokenizer.from_pretrained(trained).chat_template
    found = verify(NAME)
    assert found.ok and found.kind == "model"
    data = bytearray(files["model.safetensors"])
    data[-1] ^= 1
    repo.edit("model.safetensors", bytes(data))
    assert [check.name for check in verify(NAME).checks if not check.ok] == ["files"]


def test_a_record_of_an_earlier_version_has_a_card(trained, tmp_path):
    older = {name: value for name, value in PREFLIGHT.items() if name != "primed"}
    shutil.copytree(trained, tmp_path / "older")
    load_record(trained).model_copy(update={"preflight": older}).save(tmp_path / "older")
    told = model_release(tmp_path / "older", NAME, license="mit").card.sections["preflight"]
    assert "290,000 were learnt from" in told and "SafePath" not in told


def test_the_card_names_base_data_recipe_check_results_and_limits(hub, trained, results):
    tuned, base = results
    publish(model_release(trained, NAME, results=tuned, base_results=base, license="mit"), NAME)
    card = ModelCard.load(NAME, ignore_metadata_errors=False)
    data, text = card.data, card.text
    assert data.license == "mit" and data.library_name == "transformers" and data.pipeline_tag == "text-generation"
    assert data.base_model == "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B" and data.datasets == ["UCSC-VLAA/STAR-1"]
    assert {"star_hf", "sft", "trl"} <= set(data.tags)
    rates = {result.dataset_name: (result.metric_type, result.metric_value) for result in data.eval_results}
    assert rates == {"jbb": ("safe_rate", 95.96), "xstest": ("over_refusal_rate", 20.0)}
    assert (
        "| jbb safe\\_rate | 96.0 (90.1 to 98.4) | 50.0 (40.4 to 59.6) | by guard | 99 of 100 | 1 truncated |" in text
    )
    assert "| xstest over\\_refusal\\_rate | 20.0 (11.2 to 33.0) | 4.0" in text
    assert "| `learning_rate` | 1e-05 |" in text and "warmup_steps" not in text
    assert "The loss went from 1.250 to 0.500 in 40 updates." in text and "8 × NVIDIA H100, 1.5 minutes" in text
    assert "12 of the rows teach only how a thought begins" in text and "`Safety first.`." in text
    assert "290,000 were learnt from" in text and "`<think>`" in text and "A warning \\| of the check." in text
    assert "`own-data`" in text and "Not a safety guarantee" in text and f"star-hf verify {NAME}" in text
    assert model_info(NAME).card_data.base_model == data.base_model


def test_without_results_the_card_says_so_and_the_base_models_licence_is_taken_over(hub, trained):
    base = hub.repos["models", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"] = Repo()
    release = model_release(trained, NAME)
    assert release.card.metadata["license"] == "other" and any("--license" in text for text in release.warnings)
    base.edit("README.md", b"---\nlicense: mit\n---\n")
    release = model_release(trained, NAME)
    assert release.card.metadata["license"] == "mit" and "**Not measured.**" in release.card.sections["results"]
    assert "model-index" not in release.card.metadata and "star_results.json" not in release.files


def test_results_go_onto_a_published_model_and_change_nothing_else(hub, trained, results):
    tuned, base = results
    publish(model_release(trained, NAME, license="mit"), NAME)
    repo = hub.repo("models", NAME)
    repo.edit("README.md", repo.files()["README.md"].replace(b"## Recipe", b"## Our recipe"))
    before = dict(repo.files())
    publish(results_release(tuned, NAME, base_results=base), NAME)
    after, card = repo.files(), ModelCard.load(NAME)
    assert {path for path in after if after[path] != before.get(path)} == {"README.md", MANIFEST, "star_results.json"}
    assert set(before) <= set(after) and set(json.loads(after[MANIFEST])["files"]) >= {"model.safetensors"}
    assert "96.0 (90.1 to 98.4)" in card.text and "**Not measured.**" not in card.text
    assert "## Our recipe" in card.text and card.data.license == "mit" and len(card.data.eval_results) == 2
    assert verify(NAME).ok
    again = publish(results_release(tuned, NAME, base_results=base), NAME)
    assert not again.plan.add


def test_the_rules_of_a_policy_stay_at_home(hub, trained, tmp_path):
    found = measured("safer", [1] * 100, [1] * 50)
    settings = {"suite-bank": {"temperature": 0.0, "rules": {"Loans#rule-1": "Never lend to Zaphod."}}}
    replace(found, generation={**found.generation, "benchmarks": settings}).save(tmp_path / "one")
    release = model_release(trained, NAME, results=tmp_path / "one")
    assert b"Zaphod" not in release.files["star_results.json"] and "Zaphod" not in str(release.card.sections)
    assert json.loads(release.files["star_results.json"])["generation"]["benchmarks"] == {
        "suite-bank": {"temperature": 0.0}
    }


def test_results_under_attack_stand_apart(hub, trained, results, tmp_path):
    attack = measured("safer", [1] * 60 + [0] * 40, [1] * 50)
    attack = replace(attack, generation={**attack.generation, "attack": str(tmp_path / "mine.py:shout")})
    attack.save(tmp_path / "attacked")
    given = {"results": results[0], "attack_results": [tmp_path / "attacked"]}
    release = model_release(trained, NAME, **given)
    _, table = release.card.sections["results"].split("**Safety under attack (higher is better)**")
    assert table.strip().splitlines()[:3] == [
        "| benchmark | no attack | mine.py:shout |",
        "|---|---|---|",
        "| jbb | 96.0 (90.1 to 98.4) | 60.0 (50.2 to 69.1) |",
    ]
    assert str(tmp_path) not in release.files["star_results_mine.json"].decode()
    assert "60.0" not in str(release.card.metadata["model-index"])
    publish(model_release(trained, NAME), NAME)
    assert results_release(results[0], NAME, attack_results=given["attack_results"]).card.sections == {
        "results": release.card.sections["results"]
    }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"results": "attacked"}, "has results under the attack prefill"),
        ({"results": "tuned", "base_results": "attacked"}, "has results under the attack prefill"),
        ({"results": "tuned", "attack_results": ["base"]}, "has results without an attack"),
        ({"attack_results": ["attacked"]}, "--attack-results without --results"),
    ],
)
def test_results_under_attack_are_not_taken_for_others(trained, results, tmp_path, given, words):
    attack = measured("safer", [1], [1])
    replace(attack, generation={"attack": "prefill"}).save(tmp_path / "attacked")
    folders = {
        key: [tmp_path / name for name in value] if isinstance(value, list) else tmp_path / value
        for key, value in given.items()
    }
    with pytest.raises(StarError, match=words):
        model_release(trained, NAME, **folders)


def test_results_go_onto_a_model_that_others_published(hub, results):
    repo = hub.repos["models", NAME] = Repo()
    repo.edit("README.md", b"---\nlicense: mit\ntags: [theirs]\n---\n# Theirs\n\nWords.\n")
    publish(results_release(results[0], NAME), NAME)
    card = ModelCard.load(NAME)
    assert card.text.startswith("\n# Theirs") and card.data.tags == ["theirs"] and "## Results" in card.text
    assert len(card.data.eval_results) == 2 and verify(NAME).ok
    with pytest.raises(StarError, match="There is no model tester/nowhere"):
        results_release(results[0], f"{USER}/nowhere")


def test_leaderboards_get_whole_runs_of_benchmarks_that_the_hub_knows(hub, trained, results, tmp_path):
    publish(model_release(trained, NAME, license="mit"), NAME)
    assert ".eval_results/star_hf.yaml" not in results_release(results[0], NAME).files, "not a benchmark of the Hub"
    bench = hub.repos["datasets", "JailbreakBench/JBB-Behaviors"] = Repo()
    bench.edit("eval.yaml", b"tasks:\n- id: jbb_harmful\n")
    publish(results_release(results[0], NAME), NAME)
    (entry,) = yaml.safe_load(hub.repo("models", NAME).files()[".eval_results/star_hf.yaml"])
    assert entry["dataset"] == {"id": "JailbreakBench/JBB-Behaviors", "task_id": "jbb_harmful"}
    assert entry["value"] == 95.96 and "96.0 (90.1 to 98.4) %" in entry["notes"]
    assert entry["source"]["url"] == f"{hub.url}/{NAME}"
    measured("safer", [1] * 20, [1]).save(tmp_path / "part")
    assert ".eval_results/star_hf.yaml" not in results_release(tmp_path / "part", NAME).files, "a part is no score"


DAMAGE = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "cut weights": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        "is truncated or damaged",
    ),
    "a lost shard": (
        lambda folder: (folder / "model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "two.safetensors"}}'
        ),
        "has no two.safetensors",
    ),
    "a damaged index": (
        lambda folder: (folder / "model.safetensors.index.json").write_text('{"weight_map"'),
        "index.json is damaged: it is not JSON",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "has neither config.json"),
    "no record": (lambda folder: (folder / "star_training.json").unlink(), "has no star_training.json"),
}


@pytest.mark.parametrize(("damage", "words"), DAMAGE.values(), ids=DAMAGE)
def test_a_folder_that_is_no_whole_model_is_named(hub, trained, tmp_path, damage, words):
    import shutil

    folder = Path(shutil.copytree(trained, tmp_path / "safer"))
    damage(folder)
    with pytest.raises((StarError, TrainingError), match=words):
        model_release(folder, NAME)


def test_results_that_are_none_are_named(hub, trained, tmp_path):
    with pytest.raises(SourceError, match="results.json cannot be read"):
        model_release(trained, NAME, results=tmp_path)


def test_a_training_is_published_under_its_owner(hub, trained, caplog):
    asked = {"push_to_hub": True, "should_save": True, "hub_model_id": None, "hub_private_repo": None}
    with caplog.at_level("INFO", logger="star_hf"):
        publish_as_asked(SimpleNamespace(output_dir=str(trained), **asked))
    assert f"Published as {hub.url}/{USER}/safer at" in caplog.text


@pytest.mark.slow
def test_a_real_training_that_pushes_ends_with_our_card(hub, tmp_path):
    """`recipes/sft.py --push_to_hub true`, in a process of its own, against the loopback Hub."""
    tokenizer = standins.small_tokenizer("r1")
    tokenizer.save_pretrained(tmp_path / "base")
    standins.small_model(tokenizer).save_pretrained(tmp_path / "base")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("\n".join(map(json.dumps, standins.rows(8))) + "\n")
    options = {
        "model_name_or_path": str(tmp_path / "base"),
        "datasets": [{"path": str(tmp_path / "data")}],
        **{"dtype": "float32", "bf16": False, "use_cpu": True, "max_length": None, "report_to": "none"},
        **{"num_train_epochs": 1, "global_batch": 8, "per_device_train_batch_size": 8, "save_strategy": "no"},
        **{"output_dir": str(tmp_path / "out"), "push_to_hub": True, "hub_model_id": f"{USER}/pushed"},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(options))
    done = subprocess.run(
        [sys.executable, "recipes/sft.py", "--config", str(tmp_path / "recipe.yaml")],
        **{"cwd": ROOT, "capture_output": True, "text": True, "timeout": 240},
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    repo = hub.repo("models", f"{USER}/pushed")
    card = ModelCard.load(f"{USER}/pushed")
    assert repo.private and "## Check before the training" in card.text and "star_hf" in card.data.tags
    assert load_record(HfApi().snapshot_download(f"{USER}/pushed")).datasets[0]["path"] == "data"
    assert verify(f"{USER}/pushed").ok
    pushed = {file for files, _ in repo.commits.values() for file in files}
    assert "model.safetensors" in pushed and "training_args.bin" not in pushed  # the trainer itself pushes nothing
