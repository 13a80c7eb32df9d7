"""Training on preferences: prompts and answers are those of supervised fine-tuning, and the better answer wins."""

import json
import math

import pytest
from datasets import Dataset

import standins
from star_hf.errors import TrainingError
from star_hf.training.chat.tokenise import ChatEncoder, Masking
from star_hf.training.record import RECORD, load_record
from star_hf.training.trainers.dpo import parse, prepare, tokenise_pairs, train


WORSE = "<think>\nNothing speaks against it.\n</think>\n\nThe kettle, at once."
RECIPE = """
model_name_or_path: {model}
dtype: float32
bf16: false
datasets: [{{path: {data}}}]
global_batch: 4
per_device_train_batch_size: 4
num_train_epochs: 4
max_length: null
learning_rate: 1.0e-4
beta: 0.1
logging_steps: 1
save_strategy: "no"
report_to: none
output_dir: {output}
"""


def scored(count, worse=WORSE):
    """Two answers to each question, as two builds leave them."""
    for row in standins.rows(count):
        yield {**row, "score": {"safety": 10, "relevancy": 10}}
        yield {**row, "response": worse, "score": {"safety": 2, "relevancy": 9}}


@pytest.fixture
def recipe(tmp_path, model_folder):
    """Writes a recipe over these rows and answers its path and its output folder."""

    def make(rows):
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "train.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
        path, output = tmp_path / "small.yaml", tmp_path / "out"
        path.write_text(RECIPE.format(model=model_folder, data=tmp_path / "data", output=output))
        return path, output

    return make


PAIRS = Dataset.from_list(
    [{"question": row["question"], "chosen": row["response"], "rejected": WORSE} for row in standins.rows(3)]
)


@pytest.mark.parametrize("name", ["r1", "r1-old", "chatml", "llama-3"])
@pytest.mark.parametrize("masking", [Masking(), Masking.of("paper", True, "qwen2"), Masking(think=False)])
def test_a_pair_is_the_served_prompt_and_two_answers_as_fine_tuning_learns_them(name, masking):
    encoder = ChatEncoder(standins.small_tokenizer(name), masking)
    encoded, checked = tokenise_pairs(PAIRS, encoder)
    assert len(checked) == 6
    for pair, row in zip(PAIRS, encoded, strict=True):
        assert row["prompt_ids"] == encoder.prompt_ids(pair["question"])
        for side in ("chosen", "rejected"):
            whole = encoder.encode(pair["question"], pair[side])
            assert row["prompt_ids"] + row[f"{side}_ids"] == whole.input_ids
            assert row[f"{side}_ids"] == [label for label in whole.labels if label != -100]


def test_the_reasoning_is_compared_which_trl_alone_would_drop(model_folder, tmp_path):
    from trl import DPOConfig, DPOTrainer

    rows = [
        {"prompt": [{"role": "user", "content": pair["question"]}]}
        | {side: [{"role": "assistant", "content": pair[side]}] for side in ("chosen", "rejected")}
        for pair in PAIRS
    ]
    options = DPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", max_length=None)
    trainer = DPOTrainer(model=str(model_folder), args=options, train_dataset=Dataset.from_list(rows))
    tokenizer = trainer.processing_class
    shipped = tokenizer.decode(trainer.train_dataset[0]["rejected_ids"])
    ours = tokenizer.decode(tokenise_pairs(PAIRS, ChatEncoder(tokenizer))[0][0]["rejected_ids"])
    assert "Nothing speaks against it" not in shipped and "Nothing speaks against it" in ours


@pytest.mark.slow
def test_training_prefers_the_better_answer_and_is_recorded(recipe, model_folder):
    path, output = recipe(scored(8))
    record = train(parse(["--config", str(path)]))
    assert record == load_record(output) and record.method == "dpo"
    first, *_, last = [entry for entry in record.log_history if "rewards/margins" in entry]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)  # the model is its own reference yet
    assert last["rewards/accuracies"] == 1.0 and last["rewards/margins"] > 0.2 and last["loss"] < first["loss"]
    assert record.preflight["rows"] == 8 and record.preflight["updates"] == 8
    assert record.recipe["beta"] == 0.1 and record.recipe["rejected_score"] == 7
    assert record.datasets[0]["rows"] == 8 and len(record.datasets[0]["sha256"]) == 64
    template = "chat_template.jinja"
    assert (output / template).read_text() == (model_folder / template).read_text()
    assert not (output / "README.md").exists()


@pytest.mark.slow
def test_two_processes_prefer_what_one_prefers(recipe, in_two_processes):
    path, output = recipe(scored(8))
    one = train(parse(["--config", str(path)]))
    options = ("--per_device_train_batch_size", "2", "--precompute_ref_log_probs", "true")
    in_two_processes("recipes/dpo.py", "--config", path, *options)
    two = load_record(output)
    assert two.hardware["processes"] == 2
    assert [loss for _, loss in two.curve] == pytest.approx([loss for _, loss in one.curve], abs=1e-5)


@pytest.mark.slow
def test_adapters_prefer_the_better_answer_with_the_model_as_reference(recipe):
    path, output = recipe(scored(8))
    options = ["--use_peft", "true", "--lora_target_modules", "all-linear", "--learning_rate", "1e-2"]
    record = train(parse(["--config", str(path), *options]))
    assert record.curve[0][1] == pytest.approx(math.log(2), abs=1e-5) and record.curve[-1][1] < 0.3
    assert (output / "adapter_model.safetensors").exists() and not (output / "model.safetensors").exists()


def test_the_check_counts_pairs_and_refuses_what_fine_tuning_refuses(recipe):
    path, output = recipe(scored(8))
    findings = prepare(parse(["--config", str(path), "--max_rows", "6"])).findings
    assert (findings.rows, findings.updates, findings.batch) == (6, 8, 4)
    with pytest.raises(TrainingError, match="are 3 examples per update, but the recipe needs 4"):
        train(parse(["--config", str(path), "--per_device_train_batch_size", "3"]))
    with pytest.raises(TrainingError, match="rows are longer than max_length = 16"):
        train(parse(["--config", str(path), "--max_length", "16"]))
    with pytest.raises(TrainingError, match="There are no rows to train on"):
        train(parse(["--config", str(path), "--max_rows", "0"]))
    assert not (output / RECORD).exists()


def test_memory_counts_both_answers_and_the_reference(recipe):
    path, _ = recipe(scored(8))
    with_copy, without = (
        prepare(parse(["--config", str(path), "--precompute_ref_log_probs", flag])).findings.memory_gib
        for flag in ("false", "true")
    )
    parameters = 123_456
    assert with_copy - without == pytest.approx(2 * parameters / 2**30)


def test_an_answer_that_does_not_close_its_thought_is_named_by_its_column(recipe):
    path, _ = recipe(scored(4, worse="<think>\nand on and on"))
    with pytest.raises(TrainingError, match="Column rejected: 4 of 4 rows .* never closed"):
        prepare(parse(["--config", str(path)]))


def test_the_command_line_finds_the_kind_of_training(recipe):
    from typer.testing import CliRunner

    from star_hf import cli

    path, _ = recipe(scored(8))
    command = ["preflight", "--config", str(path), "--method", "dpo"]
    result = CliRunner().invoke(cli.app, command, env={"COLUMNS": "150"})
    assert result.exit_code == 0, result.output
    assert "Ready to train." in result.output
