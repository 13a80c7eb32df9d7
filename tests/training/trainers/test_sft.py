"""Real launches of a small model: the documented line, two processes, resuming, and what is left behind."""

import json
import os
import re
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file

import standins
from star_hf.errors import ConfigError, StarError, TrainingError
from star_hf.hub.model_release import model_release
from star_hf.training.chat.tokenise import ChatEncoder
from star_hf.training.record import RECORD, load_record
from star_hf.training.trainers.loss import StarTrainer
from star_hf.training.trainers.sft import parse, prepare, train


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


@pytest.fixture(scope="module")
def launched(recipe):
    """The documented line, with the cpu configuration."""
    path, output = recipe()
    said = standins.launch(
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
    assert [step for step, _ in record.curve] == list(range(1, 9))
    assert record.curve[-1][1] < record.curve[0][1] - 0.3
    assert record.datasets[0]["rows"] == 32 and len(record.datasets[0]["sha256"]) == 64
    assert record.preflight["updates"] == 8 and record.recipe["learning_rate"] == 1e-3
    assert (output / "loss.png").stat().st_size > 5_000
    template = "chat_template.jinja"
    assert (output / template).read_text() == (model_folder / template).read_text()
    assert not (output / "README.md").exists()


@pytest.mark.slow
@pytest.mark.parametrize("padding_free", [True, False])
def test_two_processes_learn_what_one_learns(launched, recipe, monkeypatch, in_two_processes, padding_free):
    path, output = recipe(each=4, padding_free=padding_free)
    if padding_free:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
        standins.launch("torchrun", "--standalone", "--nproc_per_node", "2", "recipes/sft.py", "--config", path)
    else:
        in_two_processes("recipes/sft.py", "--config", path)
    one, two = load_record(launched[0]), load_record(output)
    assert two.hardware["processes"] == 2
    assert [loss for _, loss in two.curve] == pytest.approx([loss for _, loss in one.curve], abs=1e-5)
    assert largest_difference(launched[0], output) < 1e-4


@pytest.mark.slow
def test_fsdp2_learns_what_one_process_learns(launched, recipe, tmp_path):
    path, output = recipe(each=4)
    config = yaml.safe_load((standins.ROOT / "recipes" / "accelerate_configs" / "fsdp2.yaml").read_text())
    here = {"use_cpu": True, "num_processes": 2, "mixed_precision": "no", "main_process_port": 0}
    (tmp_path / "fsdp2.yaml").write_text(yaml.safe_dump({**config, **here}))
    standins.launch(
        "accelerate", "launch", "--config_file", tmp_path / "fsdp2.yaml", "recipes/sft.py", "--config", path
    )
    one, two = load_record(launched[0]), load_record(output)
    assert two.hardware["processes"] == 2
    assert [loss for _, loss in two.curve] == pytest.approx([loss for _, loss in one.curve], abs=1e-5)
    assert largest_difference(launched[0], output) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif("STAR_HF_TEST_ZERO3" not in os.environ, reason="set STAR_HF_TEST_ZERO3: DeepSpeed compiles first")
def test_zero3_learns_what_one_process_learns(launched, recipe, tmp_path):
    path, output = recipe(each=4)
    config = yaml.safe_load((standins.ROOT / "recipes" / "accelerate_configs" / "zero3.yaml").read_text())
    here = {"use_cpu": True, "num_processes": 2, "mixed_precision": "no", "main_process_port": 0}
    (tmp_path / "zero3.yaml").write_text(yaml.safe_dump({**config, **here}))
    standins.launch(
        "accelerate", "launch", "--config_file", tmp_path / "zero3.yaml", "recipes/sft.py", "--config", path
    )
    one, two = load_record(launched[0]), load_record(output)
    assert [loss for _, loss in two.curve] == pytest.approx([loss for _, loss in one.curve], abs=1e-4)


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
def test_a_checkpoint_of_other_data_labels_weights_or_options_is_refused(launched, recipe, tmp_path, monkeypatch):
    """A run on other data took the old checkpoint, trained nothing, and recorded the new data's hash."""
    monkeypatch.setattr(StarTrainer, "__init__", lambda *args, **kwargs: pytest.fail("weights would be loaded"))
    path, output = recipe()
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, standins.rows(16))))
    resume = ["--config", str(path), "--resume_from_checkpoint", str(launched[0] / "checkpoint-4")]
    for options, words in (
        (["--max_rows", "8"], "the data, the token ids and labels, `max_rows` .None there, 8 now."),
        (["--think", "false"], "the token ids and labels, `think`"),
        (["--learning_rate", "2e-3"], "Different: `learning_rate` .0.001 there, 0.002 now.\\."),
    ):
        with pytest.raises(TrainingError, match=words):
            train(parse([*resume, *options]))


@pytest.mark.slow
def test_adapters_are_trained_alone_and_resumed_with_the_same_bits(recipe, model_folder):
    path, output = recipe()
    options = ["--use_peft", "true", "--lora_target_modules", "all-linear", "--learning_rate", "1e-2"]
    record = train(parse(["--config", str(path), *options]))
    assert record.curve[-1][1] < record.curve[0][1] - 0.3
    assert (record.recipe["lora"], record.recipe["lora_r"]) == (True, 16)
    assert record.recipe["lora_target_modules"] == "all-linear"
    release = model_release(output, "me/adapter")
    assert "adapter_model.safetensors" in release.files and "model.safetensors" not in release.files
    assert "An adapter for" in str(release.card)
    adapters = load_file(output / "adapter_model.safetensors")
    (output / "adapter_model.safetensors").unlink()
    shutil.rmtree(output / "checkpoint-8")
    again = train(parse(["--config", str(path), *options, "--resume_from_checkpoint", "true"]))
    assert [loss for _, loss in again.curve] == [loss for _, loss in record.curve]
    resumed = load_file(output / "adapter_model.safetensors")
    assert adapters.keys() == resumed.keys() and all(torch.equal(adapters[name], resumed[name]) for name in adapters)


@pytest.mark.slow
def test_only_the_last_layers_are_trained(recipe, model_folder):
    path, output = recipe()
    record = train(parse(["--config", str(path), "--train_layers", "1", "--gradient_checkpointing", "false"]))
    before, after = (load_file(folder / "model.safetensors") for folder in (model_folder, output))
    changed = {name for name, weights in after.items() if not torch.equal(weights, before[name])}
    assert changed and all(name.startswith("model.layers.1.") for name in changed), changed
    assert record.recipe["train_layers"] == 1 and record.curve[-1][1] < record.curve[0][1]


def test_a_limit_that_no_row_reaches_and_a_number_of_updates_are_kept(recipe):
    path, _ = recipe()
    record = train(parse(["--config", str(path), "--max_length", "512", "--max_steps", "3"]))
    assert record.preflight["updates"] == len(record.curve) == 3


@pytest.mark.slow
def test_the_papers_loss_is_the_mean_over_examples_at_any_batch_size(recipe, in_two_processes):
    """One example per step, as the published script has it, eight at once without padding, and on two processes."""
    losses = []
    options = ["--loss_average", "example", "--num_train_epochs", "1", "--gradient_accumulation_steps"]
    for each, steps in ((8, "1"), (1, "8")):
        path, output = recipe(each=each)
        losses.append([loss for _, loss in train(parse(["--config", str(path), *options, steps])).curve])
    path, _ = recipe()
    token = [loss for _, loss in train(parse(["--config", str(path), "--num_train_epochs", "1"])).curve]
    assert losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert losses[0] != pytest.approx(token, abs=2e-4)

    path, output = recipe(each=2)
    in_two_processes("recipes/sft.py", "--config", path, *options, "2")
    assert [loss for _, loss in load_record(output).curve] == pytest.approx(losses[0], abs=1e-5)


@pytest.mark.slow
def test_it_trains_where_lighteval_has_switched_gradients_off(recipe):
    path, _ = recipe()
    with torch.set_grad_enabled(False):
        record = train(parse(["--config", str(path)]))
    assert record.curve[-1][1] < record.curve[0][1] - 0.3


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
    unseen = ChatEncoder(tokenizer).serving_ids(json.loads(lines[39])["question"])
    tokens = record.preflight["label_tokens"] // 32
    said = model.generate(torch.tensor([unseen]), max_new_tokens=tokens, do_sample=False)
    assert tokenizer.decode(said[0, len(unseen) :]) == "That is policy."


@pytest.fixture
def handed(recipe, monkeypatch):
    """The class of the trainer and the recipe that a command line ends in; no weights are loaded."""
    monkeypatch.setattr("star_hf.training.trainers.sft.run", lambda kind, recipe, *args, **options: (kind, recipe))

    def run(*options):
        path, _ = recipe()
        return train(parse(["--config", str(path), *options]))

    return run


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ([], "StarTrainer"),
        (["--mode", "paper"], "ExampleMeanTrainer"),
        (["--loss_average", "example"], "ExampleMeanTrainer"),
        (["--mode", "paper", "--loss_average", "token"], "StarTrainer"),
    ],
)
def test_the_loss_is_averaged_as_the_mode_has_it_unless_the_recipe_says_otherwise(handed, options, kind):
    assert handed(*options)[0].__name__ == kind


def test_a_model_is_pushed_into_a_private_repository_unless_the_recipe_says_otherwise(handed, monkeypatch):
    monkeypatch.setattr("star_hf.training.trainers.session.get_token", lambda: "hf_not_a_real_token")
    assert handed("--push_to_hub", "true")[1].training.hub_private_repo is True
    public = handed("--push_to_hub", "true", "--hub_private_repo", "false")
    assert public[1].training.hub_private_repo is False


def test_tokenizer_configuration_and_weights_are_of_the_revision_that_is_recorded(handed, monkeypatch):
    from transformers import AutoConfig, AutoTokenizer

    asked = set()

    def watched(kind, load):
        return lambda name, **options: asked.add((kind, options.get("revision"))) or load(name, **options)

    for kind in (AutoConfig, AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", watched(kind, kind.from_pretrained))
    _, recipe = handed("--model_revision", "c0ffee")
    assert asked == {(AutoConfig, "c0ffee"), (AutoTokenizer, "c0ffee")}
    assert recipe.training.model_init_kwargs["revision"] == "c0ffee"


def test_a_primer_where_no_thought_is_learnt_is_refused(recipe):
    path, _ = recipe()
    with pytest.raises(ConfigError, match="both a `primer`, which begins a thought, and `think: false`"):
        train(parse(["--config", str(path), "--primer", "So.", "--think", "false"]))


def test_d26_weights_decay_and_norms_and_biases_do_not(model_folder):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(model_folder)
    decayed = StarTrainer.get_decay_parameter_names(None, model)
    kept = {name for name, _ in model.named_parameters()} - set(decayed)
    assert len(kept) == 11 and all("norm" in name or name.endswith(".bias") for name in kept)


def test_another_global_batch_trains_nothing(recipe):
    path, output = recipe(each=3)
    with pytest.raises(TrainingError, match="does not divide by 3"):
        train(parse(["--config", str(path)]))
    assert not (output / RECORD).exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "bfloat16"}, "updates of a learning rate like 1e-5 round away"),
        ({"dtype": "auto"}, "updates of a learning rate like 1e-5 round away"),
        ({"load_in_4bit": "true"}, "`load_in_4bit`: adapters train on"),
        ({"push_to_hub": "true"}, "`push_to_hub` is set, but there is no token"),
        ({"resume_from_checkpoint": "true"}, "There is no whole checkpoint in .*out to resume from"),
        ({"resume_from_checkpoint": "/nowhere"}, "There is no whole checkpoint in /nowhere"),
        ({"train_layers": "0"}, "`train_layers` is 0, but the model has 2 layers"),
        ({"train_layers": "3"}, "`train_layers` is 3, but the model has 2 layers"),
        ({"train_layers": "1", "use_peft": "true"}, "both `train_layers` and adapters"),
    ],
)
def test_what_cannot_be_is_refused_before_weights_are_loaded(recipe, monkeypatch, options, words):
    monkeypatch.setattr("star_hf.training.trainers.session.get_token", lambda: None)
    monkeypatch.setattr(StarTrainer, "__init__", lambda *args, **kwargs: pytest.fail("weights would be loaded"))
    path, _ = recipe()
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    with pytest.raises(StarError, match=words):
        train(parse(["--config", str(path), *given]))


def test_a_model_of_7b_fits_on_eight_gpus_where_the_recipe_can_only_be_sharded(recipe, model_folder, monkeypatch):
    """The check alone knows no launch: `bfloat16` weights are trained by DeepSpeed or FSDP, or not at all."""
    path, output = recipe(each=1)
    shutil.copytree(model_folder, output)
    config = json.loads((output / "config.json").read_text())
    shape = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28}
    shape |= {"num_key_value_heads": 4, "layer_types": ["full_attention"] * 28}
    (output / "config.json").write_text(json.dumps({**config, **shape}))
    monkeypatch.setattr("star_hf.training.trainers.session._device_gib", lambda: 79.2)
    options = ["--config", str(path), "--model_name_or_path", str(output), "--dtype"]
    sharded = parse([*options, "bfloat16"])
    assert prepare(sharded, processes=8).findings.problems == []
    assert "GiB per GPU are needed" in prepare(parse([*options, "float32"]), processes=8).findings.problems[0]
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("WORLD_SIZE", "8")
    needed = {}
    for stage, offload in (("2", "none"), ("3", "none"), ("3", "cpu")):
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", stage)
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", offload)
        needed[stage, offload] = prepare(sharded).findings.memory_gib
    assert needed["3", "cpu"] < 1 < needed["3", "none"] < needed["2", "none"] < 79


def test_one_process_for_several_gpus_is_refused(recipe):
    path, _ = recipe()
    arguments = parse(["--config", str(path)])
    arguments.training._n_gpu = 8  # as transformers finds them without a launcher
    with pytest.raises(TrainingError, match="One process sees 8 GPUs"):
        train(arguments)


def test_a_model_that_is_not_whole_is_named(recipe, tmp_path):
    path, _ = recipe()
    (tmp_path / "adapter_config.json").write_text("{}")
    for name in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=f"The model {name} cannot be loaded"):
            train(parse(["--config", str(path), "--model_name_or_path", str(name)]))


def test_a_record_that_is_none_is_named(tmp_path):
    with pytest.raises(TrainingError, match=f"has no {RECORD}"):
        load_record(tmp_path)
    (tmp_path / RECORD).write_text(json.dumps({"star_hf": "1"}))
    with pytest.raises(TrainingError, match=f"{RECORD}: `base_model` is missing"):
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
        ({"datasets": {"path": "org/data"}}, "`datasets`: Input should be a valid list"),
        ({"datasets": [{"name": "x"}]}, "`datasets.0.path` is missing"),
        ({"datasets": ["org/data"]}, "`datasets.0`: Input should be a valid dictionary"),
        ({"base_model": "org/base"}, "`base_model`: Input should be a valid dictionary"),
        ({"base_model": {}}, "`base_model.name` is missing"),
        ({"method": None, "mode": 3}, "`method`: Input should be a valid string (got None)"),
        ({"seconds": "90"}, "`seconds`: Input should be a valid number"),
        (
            {"log_history": [{"step": 1}, {"step": 2, "loss": "2.0"}]},
            "`log_history.1.loss`: Input should be a valid",
        ),
        ({"log_history": [{"step": "1", "loss": 2.0}]}, "`log_history.0.step"),
        ({"preflight": []}, "`preflight`: Input should be a valid dictionary"),
        ({"surprise": 1}, "`surprise` is not an option"),
    ],
)
def test_a_record_that_was_edited_is_refused_with_what_is_wrong(tmp_path, change, words):
    (tmp_path / RECORD).write_text(json.dumps(RECORDED))
    assert load_record(tmp_path).curve == [(1, 2.0)]
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
