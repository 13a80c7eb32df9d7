"""Every recipe parses, stands for the paper's numbers, and passes pre-flight with a stand-in tokenizer."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_deepspeed_cmd_env
from datasets import Dataset
from trl.scripts.utils import DatasetConfig

import standins
from star_hf.errors import ConfigError
from star_hf.training.chat.tokenise import ChatEncoder, Masking, tokenise
from star_hf.training.pairs import preference_pairs
from star_hf.training.plan import TrainingPlan
from star_hf.training.preflight import preflight
from star_hf.training.recipe import read_options
from star_hf.training.trainers import dpo, grpo
from star_hf.training.trainers.sft import parse, prepare


RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SAFEPATH = RECIPES / "DeepSeek-R1-Distill-Qwen-7B" / "sft" / "config_safepath.yaml"
TRAININGS = sorted(path for path in RECIPES.glob("*/sft/*.yaml") if path != SAFEPATH and path.stem != "config_demo")
NAMES = [f"{path.parts[-3]}-{path.stem}" for path in TRAININGS]


def test_all_ten_models_of_the_paper_are_there():
    assert len({path.parts[-3] for path in TRAININGS}) == 10 and len(TRAININGS) == 30


@pytest.mark.parametrize("recipe", TRAININGS, ids=NAMES)
def test_a_recipe_parses_holds_the_papers_numbers_and_passes_preflight(recipe):
    arguments = parse(["--config", str(recipe)])
    options, star = arguments.training, arguments.star
    lora = "lora" in recipe.stem
    assert options.num_train_epochs == 5 and options.learning_rate == (1e-4 if lora else 1e-5)
    assert (options.adam_beta1, options.adam_beta2, options.weight_decay) == (0.9, 0.95, 1e-4)
    assert star.think == ("nothink" not in recipe.stem)
    processes = 1 if lora else 8
    plan = TrainingPlan(
        processes,
        options.per_device_train_batch_size,
        options.gradient_accumulation_steps,
        options.num_train_epochs,
        star.global_batch,
        options.max_length,
    )
    assert plan.batch == 128
    template = "r1" if "DeepSeek" in str(recipe) else "llama-3" if "Llama" in str(recipe) else "chatml"
    rows = Dataset.from_list(standins.rows(4))
    encoder = ChatEncoder(standins.small_tokenizer(template), Masking.of(star.mode, star.think, "qwen2"))
    preflight(tokenise(rows, encoder), rows[0]["question"], encoder, plan).check()


@pytest.mark.parametrize("path", sorted((RECIPES / "accelerate_configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_configs_are_read_by_accelerate(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes == (1 if path.stem == "cpu" else 8)


@pytest.mark.parametrize(
    ("name", "recipe", "script"),
    [
        ("zero2", "recipes/some/sft/config_star1.yaml", "recipes/sft.py"),
        ("zero3", "recipes/some/dpo/config_star1.yaml", "recipes/dpo.py"),
        ("zero3_offload", "recipes/some/grpo/config_star1.yaml", "recipes/grpo.py"),
        ("fsdp2", "recipes/ablations/size_500.yaml", "recipes/sft.py"),
        ("ddp", "own.yaml", "recipes/sft.py"),
    ],
)
def test_slurm_starts_each_node_with_torchs_own_launcher(tmp_path, name, recipe, script):
    """DeepSpeed's own would want a file of hosts, and start every node from every node."""
    programs = {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'SLURM_PROCID=1 exec "$@"',
        "accelerate": 'printf "%s\\n" "$@"',
    }
    for program, text in programs.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / program).chmod(0o755)
    done = subprocess.run(
        ["bash", RECIPES / "slurm" / "train.slurm", recipe, name, "--per_device_train_batch_size", "8"],
        **{"cwd": RECIPES.parent, "capture_output": True, "text": True, "check": True},
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "n"},
    )
    given = done.stdout.split()
    arguments, _, _ = _validate_launch_command(launch_command_parser().parse_args(given[1:]))
    assert (arguments.num_machines, arguments.num_processes, arguments.machine_rank) == (2, 16, 1)
    assert (arguments.main_process_ip, arguments.training_script) == ("node-a", script)
    assert given[-2:] == ["--per_device_train_batch_size", "8"]
    if arguments.use_deepspeed:
        arguments.deepspeed_fields_from_accelerate_config = ""
        assert prepare_deepspeed_cmd_env(arguments)[0] is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("torch_dtype: bfloat16", "`torch_dtype` is now `dtype`"),
        ("max_seq_length: 8192", "`max_seq_length` is now `max_length`"),
        ("warmup_ratio: 0.05", "`warmup_ratio` is now `warmup_steps`"),
        ("learning_rat: 1", "`learning_rat` is not an option .* Did you mean `learning_rate`"),
        ("learning_rate: abc", "--learning_rate.*: invalid float value: 'abc'"),
        ("mode: papr", "`mode` is 'papr', expected paper or recommended"),
        ("loss_average: row", "`loss_average` is 'row', expected token or example"),
        ("datasets: [UCSC-VLAA/STAR-1]", "`datasets` must be a list of mappings"),
        ("datasets: [{path: x, colums: [question]}]", "colums"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, words):
    recipe = tmp_path / "old.yaml"
    recipe.write_text(f"output_dir: {tmp_path}\n{line}\n")
    with pytest.raises(ConfigError, match=words):
        parse(["--config", str(recipe)])


def test_a_renamed_option_is_named_on_the_command_line_too(tmp_path):
    with pytest.raises(ConfigError, match="`max_seq_length` is now `max_length`"):
        parse(["--output_dir", str(tmp_path), "--max_seq_length", "8192"])


PREFERENCES = sorted(RECIPES.glob("*/dpo/*.yaml"))


@pytest.mark.parametrize("recipe", PREFERENCES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_recipe_of_preferences_parses_and_passes_preflight(recipe):
    arguments = dpo.parse(["--config", str(recipe)])
    options, star = arguments.training, arguments.star
    processes = 1 if recipe.stem == "config_demo" else 8
    batch = {"per_device_batch": options.per_device_train_batch_size, "global_batch": star.global_batch}
    plan = TrainingPlan(processes, accumulation=options.gradient_accumulation_steps, sequences=2, **batch)
    rows = [{**row, "score": {"safety": mark}} for row in standins.rows(4) for mark in (10, 0)]
    pairs = preference_pairs(Dataset.from_list(rows), star.chosen_score, star.rejected_score)
    encoder = ChatEncoder(standins.small_tokenizer("r1"), Masking.of(star.mode, star.think, "qwen2"))
    preflight(dpo.tokenise_pairs(pairs, encoder)[1], pairs[0]["question"], encoder, plan).check()


@pytest.mark.parametrize(
    "recipe", sorted(RECIPES.glob("*/grpo/*.yaml")), ids=lambda path: f"{path.parts[-3]}-{path.stem}"
)
def test_a_recipe_of_rewards_parses_and_passes_its_check(recipe, tmp_path, model_folder, data_folder):
    arguments = grpo.parse(["--config", str(recipe), "--model_name_or_path", str(model_folder)])
    arguments.data.datasets = [DatasetConfig(path=str(data_folder), columns=["question"])]
    arguments.star.benign = [{"path": str(data_folder), "columns": ["question"]}]
    arguments.training.max_completion_length = min(arguments.training.max_completion_length, 1024)
    findings = grpo.prepare(arguments, processes=1 if recipe.stem == "config_demo" else 8).findings
    findings.check()
    assert findings.warnings == [] and findings.batch == arguments.star.global_batch


EXPECTED = {
    **{"500": 500, "5k": 600, "10k": 600, "41k": 1200},
    **{"medium": 600, "random": 1000, "saladbench": 300, "wildjailbreak": 300},
    **{"benign_100": 1300, "benign_300": 1500, "replay_20": 1500, "replay_50": 2400},
    "safepath": 2400,
}
"""Rows that each recipe with a `base` takes of 1,200, half with full marks, and as many of each further data set."""
VARIANTS = [*sorted((RECIPES / "ablations").glob("*.yaml")), SAFEPATH]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A data set that has whatever such a recipe asks for: marks of both kinds, sources, and conversations."""
    folder = tmp_path_factory.mktemp("published")
    names = ("SaladBench", "SaladBench", "wildjailbreak", "wildjailbreak")
    rows = [
        {**row, "source": names[number % 4], "score": {"safety": (10, 6)[number % 2]}}
        | {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": row["response"]}]}
        for number, row in enumerate(3 * standins.rows(400))
    ]
    Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    return folder


@pytest.mark.parametrize("recipe", VARIANTS, ids=lambda path: path.stem)
def test_a_recipe_with_a_base_names_what_differs_and_passes_preflight(recipe, published, model_folder):
    own, whole = yaml.safe_load(recipe.read_text()), read_options(recipe)
    base = read_options(recipe.parent / own.pop("base"))
    assert set(own) == {key for key in whole if whole[key] != base.get(key)}, "a line that changes nothing"
    arguments = parse(["--config", str(recipe), "--model_name_or_path", str(model_folder)])
    for entry in arguments.data.datasets:
        entry.path, entry.name = str(published), None
    prepared = prepare(arguments, processes=8)
    prepared.findings.check()
    assert prepared.findings.batch == 128 and len(prepared.rows) == EXPECTED[recipe.stem.partition("_")[2]]


def test_recipes_differ_only_where_they_mean_to():
    folders = (RECIPES / f"DeepSeek-R1-Distill-Qwen-{size}" for size in ("7B", "14B"))
    one, two = (yaml.safe_load((folder / "sft" / "config_star1.yaml").read_text()) for folder in folders)
    assert {key for key in one if one[key] != two[key]} == {"model_name_or_path", "output_dir"}
