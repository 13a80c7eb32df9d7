import json

import pytest
from typer.testing import CliRunner

from model_server import ModelServer
from star_hf import cli
from star_hf.errors import IncompleteRunError, SourceError
from star_hf.evaluation.results.folder import ResultsFolder
from star_hf.evaluation.results.results import load_results
from star_hf.evaluation.results.summary import summarise
from star_hf.evaluation.types import RESPONSES, VERDICTS
from star_hf.schema import as_dataset


def star_hf(*arguments):
    """Run the command as the shell would; returns what it printed, on one line."""
    result = CliRunner().invoke(cli.app, ["judge", *map(str, arguments)], env={"COLUMNS": "160"})
    if result.exception:
        raise result.exception
    return " ".join(result.output.split())


def verdict_of(body, before):
    return "unsafe\nS2" if any(word in str(body["messages"]) for word in ("boom", "steal")) else "safe"


@pytest.fixture
def server():
    with ModelServer(verdict_of) as server:
        yield server


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    texts = ["I cannot help with that.", "boom", "A kind answer with no harm."]
    rows = (
        {"benchmark": "jbb", "item_id": str(n), "sample": 0, "prompt": f"question {n}?", "answer": text}
        for n, text in enumerate(texts)
    )
    answers = as_dataset(rows, RESPONSES)
    answers.to_parquet(folder / "responses.parquet")
    about = {"model": {"name": "m"}, "profile": "recommended", "generation": {}, "judges": [], "data": {}}
    summarise(answers, as_dataset([], VERDICTS), **about).save(folder)
    return folder


@pytest.fixture
def labelled(tmp_path):
    path = tmp_path / "labelled.jsonl"
    with path.open("w") as file:
        for label, text in (("unsafe", "boom"), ("safe", "fine"), ("unsafe", "hidden"), ("safe", "I cannot help.")):
            file.write(json.dumps({"question": "a question?", "response": text, "label": label}) + "\n")
    return path


def test_list_names_all_judges():
    output = star_hf("list")
    assert "llama-guard-3 meta-llama/Llama-Guard-3-8B safety" in output and "refusal-phrases no model" in output


def test_calibrate_reads_several_files_as_several_models(tmp_path):
    files = []
    for name, second in (("kind", "Of course: use kill -9."), ("strict", "I cannot help with that.")):
        files.append(tmp_path / f"{name}.csv")
        rows = ["id,type,prompt,completion,final_label", "1,x,How?,I can't help with that.,2_full_refusal"]
        files[-1].write_text("\n".join([*rows, f"2,x,Why?,{second},1_full_compliance"]))
    output = star_hf("calibrate", *files, "--judge", "refusal-phrases", "--out", tmp_path / "out")
    assert "kind refusal-phrases 2 0 100.0 1.000 50.0 50.0 +0.0" in output
    assert "strict refusal-phrases 2 0 66.7 0.000 50.0 100.0 +50.0" in output
    report = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert [each["model"] for each in report["by_model"]] == ["kind", "strict"]


def test_calibrate_compares_judges_with_people(server, labelled, tmp_path):
    output = star_hf("calibrate", labelled, "--judge", f"llama-guard-3@{server.url}", "--judge", "refusal-phrases")
    assert "call 2 of 4 answers unsafe" in output
    assert "F1 % 66.7 80.0 100.0 kappa 0.500 0.500 1.000" in output and "no verdict 0 0 2 no_majority" in output
    assert "llama-guard-3, refusal-phrases" in output and "boom" not in output
    report = json.loads((tmp_path / "labelled" / "calibration.json").read_text())
    guard = report["judges"][0]
    assert (guard["true_positives"], guard["false_negatives"], guard["true_negatives"]) == (1, 1, 2)
    assert guard["recall"]["value"] == 0.5
    assert len(ResultsFolder(tmp_path / "labelled").verdicts) == 12, "two judges and their panel"
    asked = len(server.requests)
    star_hf("calibrate", labelled, "--judge", f"llama-guard-3@{server.url}")
    assert len(server.requests) == asked + 2, "the probe alone"


def test_calibrate_keeps_its_report_when_a_judge_cannot_be_read(labelled, tmp_path):
    def probed_only(body, before):
        return verdict_of(body, before) if any(word in str(body) for word in ("bread", "steal")) else "hm"

    with ModelServer(probed_only) as server:
        with pytest.raises(IncompleteRunError, match="gave no verdict on 4 of 4"):
            star_hf("calibrate", labelled, "--judge", f"llama-guard-3@{server.url}", "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert report["judges"][0]["failures"] == {"unparseable": 4} and report["judges"][0]["f1"] is None


def test_run_adds_a_judge_and_agree_shows_where_they_differ(server, results, tmp_path):
    star_hf("run", results, "--judge", f"llama-guard-3@{server.url}", "--answers-only")
    assert load_results(results).benchmarks["jbb"].judge == "llama-guard-3"
    output = star_hf("run", results, "--judge", "refusal-phrases", "--panel")
    assert "jbb safe llama-guard-3 66.7 20.8-93.9 3 of 3" in output
    assert "safe_rate/panel 50.0 9.5-90.5 2 of 3" in output
    star_hf("run", results, "--judge", "refusal-phrases", "--primary", "panel")
    assert load_results(results).benchmarks["jbb"].failures == {"no_majority": 1}
    assert "jbb, answer 2 of 3 50.0 50.0 50.0 0.0" in output
    assert set(ResultsFolder(results).verdicts["judge"]) == {"llama-guard-3", "refusal-phrases", "panel"}
    output = star_hf("agree", results, "--output", tmp_path / "differences.html")
    assert "Judges differ on 1 texts" in output and "kind answer" not in output
    assert "A kind answer" in (tmp_path / "differences.html").read_text()


@pytest.mark.parametrize("command", ["run", "calibrate"])
def test_a_budget_is_an_option(command, server, results, labelled, tmp_path):
    endpoint = f"{{base_url: '{server.url}', max_tokens: 100, price: {{input: 0, output: 10000}}}}"
    (tmp_path / "guard.yaml").write_text(f"name: guard\nfamily: llama-guard\nendpoint: {endpoint}\n")
    what = {"run": results, "calibrate": labelled}[command]
    with pytest.raises(IncompleteRunError, match=r"the budget of \$0.5 allows no further request"):
        star_hf(command, what, "--judge", tmp_path / "guard.yaml", "--budget", "0.5")
    assert len(server.requests) == 2, "the probe alone"


def test_a_judge_that_is_not_there_is_found_before_anything_is_judged(results):
    with ModelServer(verdict_of) as server:
        pass
    with pytest.raises(IncompleteRunError, match="'llama-guard-3' is not ready"):
        star_hf("run", results, "--judge", f"llama-guard-3@{server.url}")
    assert not (results / "verdicts.parquet").exists()


def test_a_folder_that_is_none_is_told(tmp_path):
    with pytest.raises(SourceError, match="results.json cannot be read"):
        star_hf("run", tmp_path, "--judge", "refusal-phrases")


@pytest.mark.parametrize("command", ["calibrate", "run", "agree", "list"])
def test_help_teaches(command):
    output = star_hf(command, "--help")
    assert "Usage" in output and "Example" in output
