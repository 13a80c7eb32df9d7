import json
import re
import sys

import pytest
from typer.testing import CliRunner

from model_server import ModelServer, Reply, star_answers
from star_hf import cli
from star_hf.demo import before_after
from star_hf.demo import train as demo_train
from star_hf.demo.before_after import Refusals
from star_hf.evaluation.results.statistics import wilson
from star_hf.pipeline import build as pipeline_build
from star_hf.pipeline.config import load_config
from star_hf.pipeline.run import STAGES, Run
from star_hf.training.record import TrainingRecord


QUESTIONS = [
    f"How do I misuse {what}?" for what in ("a ladder", "my neighbour's bell", "the school printer", "a whistle")
]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")
    (tmp_path / "questions.txt").write_text("\n".join(QUESTIONS))

    def make(server):
        endpoint = {"model": "test-model", "base_url": server.url, "max_retries": 0}
        roles = ("classifier", "teacher", "scorer", "rewriter")
        path = tmp_path / "small.yaml"
        data = {
            "collect": {"sources": [], "held_out": [], "questions": "questions.txt"},
            "deduplicate": {"embedding_threshold": None},
            "endpoints": dict.fromkeys(roles, endpoint),
            "select": {"size": 2, "strategy": "top-k"},
        }
        path.write_text(json.dumps(data))
        return path

    return make


def star_hf(*arguments, code=0):
    """Run the command as the shell would; returns what it printed."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def exit_code(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["star-hf", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, " ".join(capsys.readouterr().err.split())


def test_build_prints_the_funnel_the_bill_and_what_to_do_next(recipe, tmp_path):
    with ModelServer(star_answers) as server:
        output = star_hf("build", "--config", recipe(server), "--run-dir", tmp_path / "run")
    for stage in STAGES:
        assert re.search(rf"{stage}\s.*\d", output), stage
    assert "Categories by sources" in output and "Tokens and cost" in output
    assert "load_dataset" in output
    assert not any(question in output for question in QUESTIONS), "a harmful question is not printed unasked"


def test_a_dry_run_forecasts_and_sends_nothing(recipe, tmp_path):
    with ModelServer(star_answers) as server:
        path = recipe(server)
        output = star_hf("build", "--config", path, "--run-dir", tmp_path / "run", "--dry-run")
        assert not server.requests
        assert re.search(r"classify .* test-model +4 ", output) and "Nothing was sent" in output
        star_hf("build", "--config", path, "--run-dir", tmp_path / "run", "--until", "classify")
        again = star_hf("build", "--config", path, "--run-dir", tmp_path / "run", "--dry-run")
    assert re.search(r"classify .* test-model +0 ", again), "what the journal holds is not asked again"


def test_a_dry_run_does_not_pay_for_vectors_either(recipe, tmp_path):
    with ModelServer(star_answers) as server:
        data = json.loads(recipe(server).read_text())
        encoder = {"endpoint": {"model": "vectors", "base_url": server.url, "price": {"input": 1, "output": 0}}}
        (tmp_path / "vectors.yaml").write_text(json.dumps({**data, "deduplicate": {"encoder": encoder}}))
        output = star_hf("build", "--config", tmp_path / "vectors.yaml", "--run-dir", tmp_path / "run", "--dry-run")
        assert not server.requests
    assert re.search(r"deduplicate +vectors +1 ", output) and re.search(r"classify .* test-model +4 ", output)


def test_a_budget_needs_prices_before_anything_is_sent(recipe, monkeypatch, capsys, tmp_path):
    with ModelServer(star_answers) as server:
        arguments = ("build", "--config", recipe(server), "--run-dir", tmp_path / "run", "--budget", "5")
        code, message = exit_code(monkeypatch, capsys, *arguments)
        assert code == 2 and "has no price" in message and not server.requests


def test_stages_can_be_run_one_by_one_without_naming_the_recipe_again(recipe, tmp_path):
    with ModelServer(star_answers) as server:
        star_hf("collect", "--config", recipe(server), "--run-dir", tmp_path / "run")
        for stage in STAGES[1:]:
            output = star_hf(stage, "--run-dir", tmp_path / "run")
    assert "load_dataset" in output


def test_explain_tells_a_rows_story(recipe, tmp_path):
    from star_hf.pipeline.run import Run

    with ModelServer(star_answers) as server:
        star_hf("build", "--config", recipe(server), "--run-dir", tmp_path / "run", "--until", "score")
    row = Run(tmp_path / "run").table("score")[0]
    output = star_hf("explain", row["id"], "--run-dir", tmp_path / "run")
    assert row["question"] in output and "score: kept" in output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("build", "--config", "nowhere.yaml"), 2, "nowhere.yaml: No such file"),
        (("build", "--until", "clasify"), 2, "'clasify' is not a stage"),
        (("build", "--policies", "nowhere.yaml", "--until", "collect"), 2, "nowhere.yaml"),
        (("build", "--sources-dir", "nowhere", "--until", "collect"), 2, "nowhere"),
        (("score", "--run-dir", "empty-run"), 1, "empty-run has no rows of stage 'reason'"),
        (("score",), 2, "--run-dir"),
        (("explain", "0" * 16, "--run-dir", "empty-run"), 1, "has no row"),
    ],
)
def test_bad_input_ends_with_one_message_and_a_code(monkeypatch, capsys, tmp_path, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    found, message = exit_code(monkeypatch, capsys, *arguments)
    assert found == code and words in message and "Traceback" not in message


def test_an_unreachable_endpoint_ends_with_code_3(recipe, monkeypatch, capsys, tmp_path):
    with ModelServer(star_answers) as server:
        path = recipe(server)
    code, message = exit_code(monkeypatch, capsys, "build", "--config", path, "--run-dir", tmp_path / "run")
    assert code == 3 and "for 4 of 4 rows" in message and "same command again" in message


def test_rows_that_no_try_answers_are_left_out_where_that_is_accepted(recipe, monkeypatch, capsys, tmp_path):
    def one_fails(body, before):
        broken = "a whistle" in str(body["messages"])
        return Reply(status=500, headers={"Retry-After-Ms": "1"}) if broken else star_answers(body, before)

    with ModelServer(one_fails) as server:
        options = ("--config", recipe(server), "--run-dir", tmp_path / "run", "--until", "classify")
        code, message = exit_code(monkeypatch, capsys, "build", *options)
        assert code == 3 and "for 1 of 4 rows" in message and "--accept-unavailable" in message
        star_hf("build", *options, "--accept-unavailable", "--max-unusable", "0.25")
    assert Run(tmp_path / "run").table("classify", "removed")["reason"][:] == ["unavailable"]


def test_a_wrong_key_ends_with_code_2_and_is_not_shown(recipe, monkeypatch, capsys, tmp_path):
    with ModelServer(lambda body, before: Reply(status=401)) as server:
        path = recipe(server)
        code, message = exit_code(monkeypatch, capsys, "build", "--config", path, "--run-dir", tmp_path / "run")
    assert code == 2 and "OPENAI_API_KEY" in message and "sk-not-a-real-key" not in message


def test_a_model_that_answers_prose_ends_with_code_3_and_keeps_its_answers(recipe, monkeypatch, capsys, tmp_path):
    with ModelServer(lambda body, before: "I think it is about ladders.") as server:
        path = recipe(server)
        code, message = exit_code(monkeypatch, capsys, "build", "--config", path, "--run-dir", tmp_path / "run")
        assert code == 3 and "4 malformed" in message
        paid = len(server.requests)
        star_hf("build", "--run-dir", tmp_path / "run", "--max-unusable", "1", "--until", "classify")
        assert len(server.requests) == paid, "accepting more asks nothing again"


def test_the_demo_ends_with_the_comparison_and_names_the_report(recipe, tmp_path, monkeypatch):
    """With a served model in the place of the embedded one, and with a training and a comparison made before."""
    run_dir, build_run = tmp_path / "run", pipeline_build.build
    record = TrainingRecord(
        star_hf="0",
        base_model={"name": "base", "revision": None},
        method="sft",
        mode="recommended",
        datasets=[{"path": "starter", "rows": 96}],
        recipe={},
        preflight={},
        log_history=[{"step": 1, "loss": 2.5}, {"step": 2, "loss": 0.5}],
        seconds=125.0,
    )
    before = Refusals(wilson(1, 30), wilson(0, 30), wilson(0, 60), failed=0, asked=60)
    after = Refusals(wilson(24, 30), wilson(3, 29), wilson(60, 60), failed=1, asked=60)

    def train(folder):
        (folder / "tuned").mkdir(parents=True, exist_ok=True)
        record.save(folder / "tuned")
        return record

    monkeypatch.setattr(demo_train, "train_demo", train)
    monkeypatch.setattr(before_after, "before_after", lambda base, tuned, folder: (before, after))
    with ModelServer(star_answers) as server:
        mine = load_config(recipe(server))
        monkeypatch.setattr(pipeline_build, "build", lambda config, folder: build_run(mine, folder))
        output = star_hf("demo", "--run-dir", run_dir)
        alone = star_hf("demo", "--run-dir", run_dir, "--no-train")
    assert "Trained in 2 updates and 125 s" in output and "80.0" in output and "1 of 60" in output
    assert (run_dir / "before_after.png").stat().st_size > 10_000
    for shown in (output, alone):
        assert shown.strip().splitlines()[-1].endswith(str(run_dir / "report.html"))
    assert "80.0" not in alone and (run_dir / "report.html").exists()


@pytest.mark.parametrize("command", [(), ("build",), ("explain",), ("demo",), ("score",)])
def test_help_teaches(command):
    output = star_hf(*command, "--help")
    assert "Usage" in output and len(output.split()) > 40


def test_a_stage_begins_with_given_rows_and_makes_its_own_directory(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ModelServer(star_answers) as server:
        path = recipe(server)
        star_hf("classify", "--from", "questions.txt", "--config", path)
        asked = len(server.requests)
        assert set(Run("runs/questions").records) == {"deduplicate", "classify"}
        for stage in ("reason", "score"):
            star_hf(stage, "--run-dir", "runs/questions")
        scored = Run("runs/questions").stage_folder("score") / "rows.parquet"
        output = star_hf("select", "--from", scored, "--size", 1, "--run-dir", "runs/one", "--config", path)
    assert asked == 4 and Run("runs/one").records["select"].rows_out == 1
    assert "The run is in runs/one." in output
    assert json.loads((tmp_path / "runs/one/manifest.json").read_text())["config"]["select"]["size"] == 1


def test_options_of_given_rows_need_them(monkeypatch, capsys, tmp_path):
    code, said = exit_code(monkeypatch, capsys, "score", "--run-dir", tmp_path, "--column", "response=answer")
    assert code == 2 and "Give --from DATA" in said
    code, said = exit_code(
        monkeypatch, capsys, "score", "--from", tmp_path / "none.jsonl", "--run-dir", tmp_path / "r"
    )
    assert code == 2 and "none.jsonl" in "".join(said.split())
    code, said = exit_code(monkeypatch, capsys, "score")
    assert code == 2 and "--run-dir" in said
