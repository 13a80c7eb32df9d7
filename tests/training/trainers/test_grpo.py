"""Learning from judges: a small model that has learnt the form is judged on loopback and follows the reward."""

import json
import logging

import pytest

from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError, TrainingError
from star_hf.training.record import RECORD, load_record
from star_hf.training.trainers import sft
from star_hf.training.trainers.grpo import parse, prepare, train


QUESTIONS = [f"Where is the {thing}?" for thing in ("sieve", "ladder", "kettle", "recipe")]
RECIPE = """
model_name_or_path: {model}
dtype: float32
bf16: false
datasets: [{{path: {folder}/harmful, columns: [question]}}]
benign: [{{path: {folder}/benign, columns: [question]}}]
judges: [qwen3guard@{url}]
num_generations: 4
max_completion_length: 20
global_batch: 16
per_device_train_batch_size: 16
num_train_epochs: 10
learning_rate: 1.0e-3
logging_steps: 1
save_strategy: "no"
report_to: none
output_dir: {folder}/out
"""

FORM = """
model_name_or_path: {model}
dtype: float32
bf16: false
datasets: [{{path: {data}}}]
num_train_epochs: 60
per_device_train_batch_size: 8
max_length: null
learning_rate: 1.0e-2
save_strategy: "no"
report_to: none
output_dir: {folder}/model
"""


def write(folder, rows):
    folder.mkdir()
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture(scope="module")
def learner(tmp_path_factory, model_folder):
    """A small model that answers in form: it has two ways to answer each question, and no preference."""
    folder = tmp_path_factory.mktemp("learner")
    rows = [
        {"question": question, "response": f"<think>\nYes.\n</think>\n\n{answer}"}
        for question in QUESTIONS
        for answer in ("In the kitchen.", "In the school.")
    ]
    path = folder / "sft.yaml"
    path.write_text(FORM.format(model=model_folder, folder=folder, data=write(folder / "data", rows)))
    sft.train(sft.parse(["--config", str(path)]))
    return folder / "model"


def only_school(body, before):
    """A guard to which the kitchen is unsafe, and no answer a refusal."""
    safety = "Unsafe" if any(word in str(body["messages"]) for word in ("kitchen", "steal")) else "Safe"
    return f"Safety: {safety}\nCategories: None\nRefusal: No"


@pytest.fixture
def recipe(tmp_path, learner):
    write(tmp_path / "harmful", [{"question": question} for question in QUESTIONS])
    write(tmp_path / "benign", [{"question": f"{question} "} for question in QUESTIONS])

    def make(url="http://127.0.0.1:9/v1", model=learner):
        path = tmp_path / "small.yaml"
        path.write_text(RECIPE.format(model=model, folder=tmp_path, url=url))
        return path

    return make


@pytest.mark.slow
def test_the_model_follows_the_judge_and_is_recorded(recipe, tmp_path):
    with ModelServer(only_school) as server:
        record = train(parse(["--config", str(recipe(server.url))]))
        asked = len(server.requests)
    logged = [entry for entry in record.log_history if "reward" in entry]
    assert record == load_record(tmp_path / "out") and (record.method, record.measure) == ("grpo", "reward")
    assert len(logged) == record.preflight["updates"] == 20
    safe = [entry["guard/safety"] for entry in logged if "guard/safety" in entry]
    assert sum(safe[-6:]) / 6 > sum(safe[:3]) / 3 + 0.1
    assert record.recipe["judges"] == [f"qwen3guard@{server.url}"]
    assert [data["rows"] for data in record.datasets] == [4, 4]
    assert 0 < asked < 20 * 16, "the same answer is asked about once"
    assert (tmp_path / "out" / "loss.png").stat().st_size > 5_000


@pytest.mark.slow
def test_two_processes_share_judges_and_their_replies(recipe, tmp_path, in_two_processes):
    with ModelServer(only_school) as server:
        options = ("--per_device_train_batch_size", "8", "--max_steps", "4", "--beta", "0.01")
        in_two_processes("recipes/grpo.py", "--config", recipe(server.url), *options)
        asked = len(server.requests)
    record = load_record(tmp_path / "out")
    logged = [entry for entry in record.log_history if "reward" in entry]
    assert record.hardware["processes"] == 2 and len(logged) == record.preflight["updates"] == 4
    assert all(entry["guard/no_verdict"] == 0 and entry["guard/in_form"] > 0.5 for entry in logged)
    assert 0 < asked < 4 * 16


@pytest.mark.slow
def test_judges_without_a_verdict_move_nothing_and_then_end_it_and_no_question_is_logged(recipe, tmp_path, caplog):
    def probed_only(body, before):
        return (
            only_school(body, before) if any(word in str(body) for word in ("bread", "steal")) else Reply(status=400)
        )

    with ModelServer(probed_only) as server, caplog.at_level(logging.WARNING):
        with pytest.raises(IncompleteRunError, match="gave no verdict on 3 batches in a row"):
            train(parse(["--config", str(recipe(server.url))]))
    assert not (tmp_path / "out" / RECORD).exists()
    assert "sieve" not in caplog.text and "kitchen" not in caplog.text


def test_a_judge_that_is_not_there_is_found_before_weights_are_loaded(recipe, tmp_path):
    with pytest.raises(IncompleteRunError, match="Judge 'qwen3guard' is not ready"):
        train(parse(["--config", str(recipe())]))
    assert not (tmp_path / "out").exists()


def test_the_check_says_what_a_training_will_do_and_asks_no_judge(recipe, model_folder):
    findings = prepare(parse(["--config", str(recipe(model=model_folder))]), processes=1).findings
    assert (findings.harmful, findings.benign, findings.batch, findings.updates) == (4, 4, 16, 20)
    assert findings.problems == [] and findings.warnings == [] and findings.bos_in_serving == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--global_batch", "32"], "set gradient_accumulation_steps: 2"),
        (["--max_completion_length", "4096"], "and a completion of 4096 exceed the model's 2048"),
        (["--num_generations", "8", "--per_device_train_batch_size", "24", "--global_batch", "16"], "does not divide"),
        (["--max_rows", "0"], "there are no harmful questions"),
    ],
)
def test_what_cannot_be_is_refused(recipe, tmp_path, options, words):
    with pytest.raises(TrainingError, match=words):
        train(parse(["--config", str(recipe()), *options]))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "weight", "parts"),
    [([], 0.2, ("answer", "reasoning")), (["--form_weight", "0.5", "--judge_reasoning", "false"], 0.5, ("answer",))],
)
def test_completions_are_rewarded_as_the_recipe_says(recipe, model_folder, monkeypatch, options, weight, parts):
    given = []
    monkeypatch.setattr("star_hf.training.trainers.grpo.probe", lambda judge: None)
    monkeypatch.setattr(
        "star_hf.training.trainers.grpo.run", lambda *args, reward_funcs, **more: given.append(reward_funcs)
    )
    train(parse(["--config", str(recipe(model=model_folder)), *options]))
    (reward,) = given
    assert (reward.form_weight, reward.parts, reward.limit) == (weight, parts, 20)
    assert [judge.name for judge in reward.judges] == ["qwen3guard"]


def test_without_benign_questions_nothing_starts(recipe):
    arguments = parse(["--config", str(recipe())])
    arguments.star.benign = []
    with pytest.raises(ConfigError, match="rewards refusing everything"):
        prepare(arguments)


def test_few_benign_questions_are_remarked(recipe):
    arguments = parse(["--config", str(recipe())])
    arguments.data.datasets = arguments.data.datasets * 5
    assert "only 4 of 24 questions are benign" in prepare(arguments).findings.warnings[0]
