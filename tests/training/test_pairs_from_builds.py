"""From two builds of the same questions to pairs: the teacher's answers beside the student's, as documented."""

import json
import shutil
from pathlib import Path

import pytest

from model_server import ModelServer, star_answers
from star_hf.errors import TrainingError
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig, load_config
from star_hf.schema import SCORE_CRITERIA
from star_hf.training.trainers.dpo import parse, prepare


ROOT = Path(__file__).resolve().parents[2]
THINGS = ("sieve", "ladder", "kettle", "garden hose", "recipe book", "bread knife", "spare key", "umbrella")
COUNT = len(THINGS)


def rule(body, before):
    """Teacher, student and scorer: only what the student says by itself gets low marks."""
    said = body["messages"][-1]["content"]
    if set(body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})) == set(
        SCORE_CRITERIA
    ):
        return json.dumps(dict.fromkeys(SCORE_CRITERIA, 2 if "At once" in said else 10))
    if body["model"] == "student":
        assert "policies" not in said, "the student is asked the bare question"
        return "<think>\nNo reason against it.\n</think>\n\nAt once."
    return star_answers(body, before)


@pytest.fixture
def runs(tmp_path):
    """The scored rows of a build, and of its copy that the student has answered."""
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"Where is the {thing}?", "source": "own"} for thing in THINGS]
    questions.write_text("\n".join(map(json.dumps, rows)))
    with ModelServer(rule) as server:
        teacher, student = (
            {"model": model, "base_url": server.url, "provider": "vllm"} for model in ("teacher", "student")
        )
        common = {
            "collect": {"sources": [], "held_out": [], "questions": str(questions)},
            "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 0.99},
            "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), teacher),
        }
        build(BuildConfig.model_validate(common), tmp_path / "first", until="score", progress=False)
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        recipe = load_config(ROOT / "recipes" / "data" / "student.yaml")
        config = BuildConfig.model_validate(
            {
                **common,
                "endpoints": {**common["endpoints"], "teacher": student},
                "prompts": recipe.prompts,
                "max_unusable": recipe.max_unusable,
            }
        )
        for stage in ("reason", "score"):
            build(config, tmp_path / "second", only=stage, progress=False)
    return [tmp_path / name / "5-score" for name in ("first", "second")]


def recipe_over(folder, model, runs):
    data = [
        {"path": str(run), "data_files": "rows.parquet", "columns": ["question", "response", "score"]} for run in runs
    ]
    path = folder / "recipe.yaml"
    path.write_text(
        f"model_name_or_path: {model}\ndtype: float32\nbf16: false\nmax_length: null\noutput_dir: {folder / 'out'}\n"
        f"datasets: {json.dumps(data)}\n"
    )
    return parse(["--config", str(path)])


def test_the_students_own_answers_are_rejected_and_one_build_alone_makes_no_pairs(runs, tmp_path, model_folder):
    prepared = prepare(recipe_over(tmp_path, model_folder, runs))
    assert len(prepared.rows) == COUNT
    assert all("careful answer" in pair["chosen"] and "At once." in pair["rejected"] for pair in prepared.rows)
    assert prepared.findings.problems == []
    with pytest.raises(TrainingError, match=f"of {COUNT} questions, 0 have more than one response"):
        prepare(recipe_over(tmp_path, model_folder, runs[:1]))
