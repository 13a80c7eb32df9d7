"""`make evidence`: its recipe, a whole small run, and docs/results.md, which has to be what docs/results/ says."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from small_benchmarks import tiny_model, write_benchmarks
from star_hf.errors import ConfigError, StarError
from star_hf.evaluation.results.results import load_results
from star_hf.training.record import load_record


ROOT = Path(__file__).resolve().parents[2]
EVIDENCE, DOCS = ROOT / "recipes" / "evidence", ROOT / "docs"
sys.path.insert(0, str(EVIDENCE))
import arms  # noqa: E402
import kept  # noqa: E402
import page  # noqa: E402


sys.path.remove(str(EVIDENCE))


def rows(count):
    """Mild rows in STAR-1's columns."""
    criteria = ("Content_Safety_Compliance", "Relevancy_and_No_Redundant_Content", "Accuracy_of_Thinking_Process")
    return [
        {
            "id": f"{n:016x}",
            "question": f"How do I misuse a spoon, way {n}?",
            "response": f"<think>\nSpoon {n}.\n</think>\n\nI will not help with that{', again' * n}.",
            "category": ["Self-Harm" if n % 2 else "Misinformation"],
            "source": f"source {n % 3}",
            "score": dict.fromkeys(criteria, 10),
        }
        for n in range(count)
    ]


RECIPE = {
    "rows": 4,
    "longest": 140,
    "judge": "refusal-phrases",
    "questions": {"strongreject": 3, "xstest": None, "xstest_unsafe": 2},
    "attacks": {"prefill": 2, "hijack": 2},
    "solutions": 3,
}
TRAINING = {"base": str(EVIDENCE / "training.yaml"), "train_layers": 2, "num_train_epochs": 1, "max_steps": 1}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A call of the command on a small model, small data and three arms."""
    own = {**yaml.safe_load((EVIDENCE / "evidence.yaml").read_text()), **RECIPE}
    own["arms"] = {name: own["arms"][name] for name in ("untouched", "star1", "answers")}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(TRAINING))
    (tmp_path / "asking.yaml").write_text("profile: recommended\ngeneration: {temperature: 0.0, max_tokens: 8}\n")
    (tmp_path / "rows.json").write_text(json.dumps(rows(12)))
    model, sources = tiny_model(tmp_path / "model"), write_benchmarks(tmp_path / "sources")

    def call(*more):
        places = {
            "--model": model,
            "--data": tmp_path / "rows.json",
            "--sources": sources,
            "--work": tmp_path / "work",
        }
        options = [str(part) for pair in places.items() for part in pair]
        recipe = ["--recipe", str(tmp_path / "recipe.yaml"), "--training", str(tmp_path / "training.yaml")]
        monkeypatch.setattr(sys, "argv", ["arms.py", *options, *recipe, *more])
        arms.main()
        return tmp_path / "work"

    return call


@pytest.mark.slow
def test_a_small_run_from_rows_to_the_page_goes_on_where_it_stopped(small):
    work = small("--arms", "untouched", "star1")
    text = (work / "results.md").read_text()
    assert "**Not finished:** STAR-1 without thoughts." in text
    assert "| StrongREJECT, prefilled (2) |" in text and "**STAR-1** minus **untouched**" in text
    assert (work / "results" / "results.png").stat().st_size > 10_000
    assert load_record(work / "star1" / "model").preflight["rows"] == 4
    assert load_results(work / "star1" / "hijack").attack == "hijack"
    assert str(work) not in (work / "results" / "star1" / "star_training.json").read_text()
    before = (work / "star1" / "model" / "model.safetensors").stat().st_mtime_ns
    small()
    text = (work / "results.md").read_text()
    assert "Not finished" not in text and "**STAR-1 without thoughts** minus **STAR-1**" in text
    assert load_record(work / "answers" / "model").recipe["think"] is False
    assert (work / "star1" / "model" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_an_arm_whose_record_differs_from_the_recipe_is_trained_again(small, tmp_path):
    work = small("--steps", "train", "--arms", "star1")
    first = load_record(work / "star1" / "model")
    (tmp_path / "training.yaml").write_text(yaml.safe_dump({**TRAINING, "learning_rate": 1e-3}))
    small("--steps", "train", "--arms", "star1")
    second = load_record(work / "star1" / "model")
    assert (first.recipe["learning_rate"], second.recipe["learning_rate"]) == (4e-4, 1e-3)
    (tmp_path / "rows.json").write_text(json.dumps(rows(12)[2:]))
    small("--steps", "train", "--arms", "star1")
    assert load_record(work / "star1" / "model").datasets[0]["sha256"] != second.datasets[0]["sha256"]


@pytest.mark.parametrize("other", ["star1,plain,xstest,2,aa,1,,0,5", "star1,plain,xstest,1,bb,1,,0,5"])
def test_arms_with_other_questions_or_the_same_in_other_words_are_not_compared(other, tmp_path):
    head, first = (
        "arm,attack,benchmark,item_id,asked,refused,failure,thinks,tokens",
        "untouched,plain,xstest,1,aa,0,,0,5",
    )
    (tmp_path / "scores.csv").write_text(f"{head}\n{first}\n{other}\n")
    with pytest.raises(StarError, match="not asked the same questions"):
        _ = kept.Kept(tmp_path).scores


def test_the_recipe_is_read_and_a_slip_in_it_is_named(tmp_path):
    recipe = arms.read_recipe(data="mine.json")
    assert recipe.data == "mine.json" and next(iter(recipe.arms)) == "untouched"
    assert {other for arm in recipe.arms.values() for other in arm.against} <= set(recipe.arms)
    assert Path(recipe.training).is_file() and Path(recipe.asking).is_file()
    (tmp_path / "own.yaml").write_text((EVIDENCE / "evidence.yaml").read_text() + "row: 3\n")
    with pytest.raises(ConfigError, match="row"):
        arms.read_recipe(tmp_path / "own.yaml")


def test_the_arms_have_the_rows_that_they_say(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps(rows(12)))
    given = arms.read_recipe(data=str(tmp_path / "rows.json")).model_copy(update={"rows": 4, "longest": 140})
    by_random, by_coverage = (
        arms.rows_of(arms.Arm(title="x", select=name), given)["question"] for name in ("random", "coverage")
    )
    assert len(by_random) == len(by_coverage) == 4 and set(by_random) != set(by_coverage)
    with_benign = arms.rows_of(arms.Arm(title="x", select="random", benign=True), given)["question"]
    assert with_benign[:4] == by_random and len(with_benign) == 4 + 48
    assert len(arms.star1_rows(given)) == 9, "long rows are left out"
    with pytest.raises(ConfigError, match="9 rows .* 10"):
        arms.rows_of(arms.Arm(title="x", select="random"), given.model_copy(update={"rows": 10}))


def test_the_judges_error_is_that_of_its_guide():
    """The counts give the F1, the kappas and the shares of docs/judges.md."""
    told = (DOCS / "judges.md").read_text().split("In the second table")[1].split("\n\n")[2]
    for study in kept.Kept(DOCS / "results").judge:
        of = study.judged
        said = (study.true_positives + study.false_positives) / of
        people = (study.true_positives + study.false_negatives) / of
        numbers = f"{100 * study.f1:.1f} | {study.kappa:.3f} | {100 * people:.1f} | {100 * said:.1f}"
        assert f"| `refusal`, {study.model} | {numbers.replace(' 0.', ' .')} |" in told


def test_the_page_is_what_the_kept_results_say():
    assert page.page(kept.Kept(DOCS / "results")) == (DOCS / "results.md").read_text()


def test_the_numbers_on_the_readme_are_the_pages():
    shown = (ROOT / "README.md").read_text().split("**Measured here**")[1].split("What star_hf adds")[0]
    rows = [line for line in shown.splitlines() if line.startswith("|") and "---" not in line]
    assert len(rows) >= 4 and set(rows) <= set((DOCS / "results.md").read_text().splitlines())


def test_what_is_kept_is_small_and_holds_no_text_of_a_model():
    files = [path for path in (DOCS / "results").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
    assert {path.suffix for path in files} <= {".json", ".csv", ".png"}
    columns = (DOCS / "results" / "scores.csv").read_text().partition("\n")[0].split(",")
    assert not {"answer", "reasoning", "question", "prompt"} & set(columns)
    for path in (path for path in files if path.suffix == ".json" and path.name != "run.json"):
        longest = max(re.findall(r'"(?:[^"\\]|\\.)*"', path.read_text()), key=len)
        assert len(longest) <= 2 + 120, path
