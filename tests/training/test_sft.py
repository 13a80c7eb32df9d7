"""Real launches of a small model: the documented line, two processes, resuming, and what is left behind."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import standins
from star_hf.errors import ConfigError, TrainingError
from star_hf.training.record import RECORD, load_record
from star_hf.training.sft import parse, train
from star_hf.training.tokenise import Encoder


ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
model_name_or_path: {model}
dtype: float32
bf16: false
datasets: [{{path: {data}}}]
num_train_epochs: 2
global_batch: 8
per_device_train_batch_size: {each}
padding_free: {padding_free}
max_length: null
learning_rate: 1.0e-3
logging_steps: 1
save_strategy: epoch
report_to: none
output_dir: {output}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, model_folder, data_folder):
    """Writes a recipe and answers its path and its output folder."""

    def make(each=8, padding_free=True):
        folder = tmp_path_factory.mktemp("training")
        path, output = folder / "small.yaml", folder / "out"
        options = {"each": each, "padding_free": str(padding_free).lower(), "output": output}
        path.write_text(RECIPE.format(model=model_folder, data=data_folder, **options))
        return path, output

    return make


def launch(program, *arguments):
    """Run a launcher of the environment from the project's root."""
    command = [str(Path(sys.executable).parent / program), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, env={**os.environ})
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def launched(recipe):
    """The documented line, with the cpu configuration."""
    path, output = recipe()
    said = launch(
        "accelerate",
        "launch",
        "--config_file",
        "recipes/accelerate_configs/cpu.yaml",
        "recipes/sft.py",
        "--config",
        path,
    )
    return output, said


@pytest.mark.slow
def test_the_documented_line_trains_saves_and_records(launched, model_folder):
    output, said = launched
    record = load_record(output)
    assert "first label tokens: 'The small sieve" in said
    assert [step for step, _ in record.losses] == list(range(1, 9))
    assert record.losses[-1][1] < record.losses[0][1] - 0.3
    assert record.datasets[0]["rows"] == 32 and len(record.datasets[0]["sha256"]) == 64
    assert record.preflight["updates"] == 8 and record.recipe["learning_rate"] == 1e-3
    assert (output / "loss.png").stat().st_size > 5_000
    template = "chat_template.jinja"
    assert (output / template).read_text() == (model_folder / template).read_text()
    assert not (output / "README.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("padding_free", [True, False])
def test_two_processes_learn_what_one_learns(launched, recipe, monkeypatch, padding_free):
    path, output = recipe(each=4, padding_free=padding_free)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    launch("torchrun", "--standalone", "--nproc_per_node", "2", "recipes/sft.py", "--config", path)
    one, two = load_record(launched[0]), load_record(output)
    assert two.hardware["processes"] == 2
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-5)
    assert largest_difference(launched[0], output) < 1e-4


@pytest.mark.slow
def test_fsdp2_learns_what_one_process_learns(launched, recipe, tmp_path):
    path, output = recipe(each=4)
    config = yaml.safe_load((ROOT / "recipes" / "accelerate_configs" / "fsdp2.yaml").read_text())
    here = {"use_cpu": True, "num_processes": 2, "mixed_precision": "no", "main_process_port": free_port()}
    (tmp_path / "fsdp2.yaml").write_text(yaml.safe_dump({**config, **here}))
    launch("accelerate", "launch", "--config_file", tmp_path / "fsdp2.yaml", "recipes/sft.py", "--config", path)
    one, two = load_record(launched[0]), load_record(output)
    assert two.hardware["processes"] == 2
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-5)
    assert largest_difference(launched[0], output) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif("STAR_HF_TEST_ZERO3" not in os.environ, reason="set STAR_HF_TEST_ZERO3: DeepSpeed compiles first")
def test_zero3_learns_what_one_process_learns(launched, recipe, tmp_path):
    path, output = recipe(each=4)
    config = yaml.safe_load((ROOT / "recipes" / "accelerate_configs" / "zero3.yaml").read_text())
    here = {"use_cpu": True, "num_processes": 2, "mixed_precision": "no", "main_process_port": free_port()}
    (tmp_path / "zero3.yaml").write_text(yaml.safe_dump({**config, **here}))
    launch("accelerate", "launch", "--config_file", tmp_path / "zero3.yaml", "recipes/sft.py", "--config", path)
    one, two = load_record(launched[0]), load_record(output)
    assert [loss for _, loss in two.losses] == pytest.approx([loss for _, loss in one.losses], abs=1e-4)


def largest_difference(left, right):
    one, two = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_bits(launched, recipe):
    path, output = recipe()
    train(parse(["--config", str(path), "--resume_from_checkpoint", str(launched[0] / "checkpoint-4")]))
    assert largest_difference(launched[0], output) == 0.0


@pytest.mark.slow
def test_the_papers_loss_is_the_mean_over_examples_at_any_batch_size(recipe):
    """One example per step, as the published script has it, and eight at once without padding."""
    losses = []
    for each, steps in ((8, "1"), (1, "8")):
        path, output = recipe(each=each)
        options = ["--loss_average", "example", "--gradient_accumulation_steps", steps, "--num_train_epochs", "1"]
        losses.append([loss for _, loss in train(parse(["--config", str(path), *options])).losses])
    path, _ = recipe()
    token = [loss for _, loss in train(parse(["--config", str(path), "--num_train_epochs", "1"])).losses]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert losses[0] != pytest.approx(token, abs=2e-4)


@pytest.mark.slow
def test_it_trains_where_lighteval_has_switched_gradients_off(recipe):
    path, _ = recipe()
    with torch.set_grad_enabled(False):
        record = train(parse(["--config", str(path)]))
    assert record.losses[-1][1] < record.losses[0][1] - 0.3


@pytest.mark.slow
def test_a_model_learns_to_begin_its_thought_with_the_primer(recipe, tmp_path):
    """SafePath: of questions alone, and to questions that it was not trained on."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "questions").mkdir()
    lines = [json.dumps({"question": row["question"]}) for row in standins.rows(40)]
    (tmp_path / "questions" / "train.jsonl").write_text("\n".join(lines[:32]) + "\n")
    path, output = recipe()
    own = {"datasets": [{"path": str(tmp_path / "questions")}], "primer": "That is policy.", "num_train_epochs": 10}
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **own}))
    record = train(parse(["--config", str(path)]))
    assert record.preflight["primed"] == record.preflight["rows"] == 32 and record.recipe["primer"] == own["primer"]
    tokenizer, model = AutoTokenizer.from_pretrained(output), AutoModelForCausalLM.from_pretrained(output)
    unseen = Encoder(tokenizer).serving_ids(json.loads(lines[39])["question"])
    tokens = record.preflight["label_tokens"] // 32
    said = model.generate(torch.tensor([unseen]), max_new_tokens=tokens, do_sample=False)
    assert tokenizer.decode(said[0, len(unseen) :]) == "That is policy."


def test_a_primer_where_no_thought_is_learnt_is_refused(recipe):
    path, _ = recipe()
    with pytest.raises(ConfigError, match="`primer`, which begins a thought, and `think: false`"):
        train(parse(["--config", str(path), "--primer", "So.", "--think", "false"]))


def test_another_global_batch_trains_nothing(recipe):
    path, output = recipe(each=3)
    with pytest.raises(TrainingError, match="does not divide by 3"):
        train(parse(["--config", str(path)]))
    assert not (output / RECORD).exists()


def test_half_precision_without_sharding_is_refused_before_weights_are_loaded(recipe):
    path, _ = recipe()
    with pytest.raises(TrainingError, match="updates of a learning rate like 1e-5 round away"):
        train(parse(["--config", str(path), "--dtype", "bfloat16"]))


def test_a_record_that_is_none_is_named(tmp_path):
    with pytest.raises(TrainingError, match=f"has no {RECORD}"):
        load_record(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({"star_hf": "1"}))
    with pytest.raises(TrainingError, match="cannot be read"):
        load_record(tmp_path)


RECORDED = {
    "star_hf": "1",
    "base_model": {"name": "org/base"},
    "method": "sft",
    "mode": "paper",
    "datasets": [{"path": "org/data"}],
    "recipe": {},
    "preflight": {},
    "log_history": [{"step": 1, "loss": 2.0}],
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"datasets": {"path": "org/data"}}, "`datasets` is a dict, expected a list"),
        ({"datasets": [{"name": "x"}]}, "`datasets[0]` has no `path`"),
        ({"datasets": ["org/data"]}, "`datasets[0]` is a str, expected a dict"),
        ({"base_model": "org/base"}, "`base_model` is a str, expected a dict"),
        ({"base_model": {}}, "`base_model` has no `name`"),
        ({"method": None, "mode": 3}, "`method` is a NoneType, expected a str; `mode` is a int"),
        ({"seconds": "90"}, "`seconds` is a str, expected a number"),
        ({"log_history": [{"step": 1}, {"step": 2, "loss": "2.0"}]}, "`log_history[1]` has no number as `loss`"),
        ({"log_history": [{"step": "1", "loss": 2.0}]}, "`log_history[0]` has no number as `step`"),
        ({"preflight": []}, "`preflight` is a list, expected a dict"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_record_that_was_edited_is_refused_with_what_is_wrong(tmp_path, change, words):
    (tmp_path / RECORD).write_text(json.dumps(RECORDED))
    assert load_record(tmp_path).losses == [(1, 2.0)]
    (tmp_path / RECORD).write_text(json.dumps({**RECORDED, **change}))
    with pytest.raises(TrainingError, match=re.escape(words)):
        load_record(tmp_path)


def test_the_command_line_shows_the_pre_flight(recipe):
    from typer.testing import CliRunner

    from star_hf import cli

    path, _ = recipe()
    result = CliRunner().invoke(cli.app, ["preflight", "--config", str(path)], env={"COLUMNS": "150"})
    assert result.exit_code == 0, result.output
    assert "Ready to train." in result.output and "2,777" in result.output
