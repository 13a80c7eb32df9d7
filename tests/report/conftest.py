"""A finished run, built once against a model server on loopback, with texts that try to break out of a page."""

import json
import os
from pathlib import Path

import pytest

from model_server import ModelServer, star_answers
from star_hf.evaluation.results.results import Average, BenchmarkResult, Results
from star_hf.evaluation.results.statistics import wilson
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig
from star_hf.pipeline.run import Run
from star_hf.training.record import TrainingRecord


BREAKOUTS = (
    "</script><script>window.broken = 1</script>",
    "<img src=x onerror='window.broken = 2'>",
    "\"'`}]};window.broken = 3;//",
    "<!--<script>",
    "line\u2028separator\u2029and &lt;b&gt; & <b>bold</b>",
    "]]> <svg/onload=window.broken=4> {{ 7 * 7 }} {% raw %}",
    "[link](javascript:window.broken=5) \u202egnp.exe \x00\x1b[31m",
)
"""What a hostile question or answer may look like. Each sets `window.broken` if the page takes it for code."""


@pytest.fixture(scope="session")
def run(tmp_path_factory) -> Run:
    """Sixty mild questions from three sources through all stages, some hostile in form, some doubled."""
    folder = tmp_path_factory.mktemp("report")
    topics = ["locks", "tickets", "letters", "rumours", "secrets", "jokes"]
    rows = [
        {"question": f"How do I misuse {topics[n % 6]} number {n} in town {n * 7}?", "source": f"set-{n % 3}"}
        for n in range(60)
    ]
    rows += [{"question": f"What about {text}", "source": f"set-{text[:12]}"} for text in BREAKOUTS]
    rows += [{"question": "Please: how do I misuse locks number 0 in town 0?", "source": "set-2"}, rows[0]]
    held_out = [{"question": "How do I misuse jokes number 5 in town 35?"}]
    for name, lines in (("questions", rows), ("bench", held_out)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    def rule(body, before):
        answer = star_answers(body, before)
        hostile = next((text for text in BREAKOUTS if text[:8] in body["messages"][-1]["content"]), "")
        if "response_format" in body or not hostile:
            return answer
        return answer.replace("careful", f"careful {hostile}")

    os.environ.setdefault("OPENAI_API_KEY", "sk-not-a-real-key")
    with ModelServer(rule) as server:
        endpoint = {"model": "test-model", "base_url": server.url, "name": "test", "concurrency": 4, "max_retries": 1}
        endpoint["price"] = {"input": 1, "output": 2}
        config = {
            "collect": {
                "sources": [],
                "held_out": [],
                "questions": str(folder / "questions.jsonl"),
                "held_out_questions": str(folder / "bench.jsonl"),
            },
            "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 0.95},
            "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), endpoint),
            "select": {"size": 20},
        }
        return build(BuildConfig.model_validate(config), folder / "run", progress=False)


@pytest.fixture(scope="session")
def record() -> TrainingRecord:
    """What a training of eleven steps wrote down."""
    history = [{"step": step, "loss": 2 - step / 10, "learning_rate": 1e-5} for step in range(1, 11)]
    history += [
        {"step": 10, "eval_loss": 0.5},
        {"step": 11, "loss": float("nan")},
        {"step": 11, "train_runtime": 60.0},
    ]
    return TrainingRecord(
        star_hf="0.1.0",
        base_model={"name": "org/base", "revision": "abc"},
        method="sft",
        mode="recommended",
        datasets=[{"path": "runs/star-1/dataset", "name": None, "split": "train", "sha256": "0" * 64, "rows": 1000}],
        recipe={"num_train_epochs": 5, "max_rows": None, "bf16": True, "note": "<script>1</script>"},
        preflight={"tokens": 1_234_567, "warnings": [], "memory_gib": 0.00461196},
        log_history=history,
        hardware={"device": "cpu"},
        seconds=150.0,
    )


def measured(kind, good, n, failures=None, **options):
    """A benchmark result of so many good answers."""
    found = wilson(good, n)
    metric = {"safety": "safe_rate", "over_refusal": "over_refusal_rate", "reasoning": "accuracy"}[kind]
    items = n + sum((failures or {}).values())
    rates = (found.value, found.low, found.high, n, items)
    return BenchmarkResult(kind, metric, "guard", "answer", *rates, failures=failures or {}, **options)


def results(name, safe, refused, solved, **options):
    benchmarks = {
        "strongreject": measured("safety", safe, 40, **options),
        "jbb": measured("safety", safe, 40),
        "xstest": measured("over_refusal", refused, 50),
        "aime24": measured("reasoning", solved, 30),
    }
    averages = {
        "safety": Average(safe / 40, benchmarks=("strongreject", "jbb")),
        "over_refusal": Average(refused / 50, benchmarks=("xstest",)),
        "reasoning": Average(solved / 30, benchmarks=("aime24",)),
    }
    return Results({"name": name}, "recommended", {}, [], benchmarks, averages)


@pytest.fixture(scope="session")
def before() -> Results:
    """What a model did before its training."""
    thought = {"reasoning_safe_rate": wilson(4, 40)}
    return results("org/base", 10, 5, 15, failures={"truncated": 3}, metrics=thought)


@pytest.fixture(scope="session")
def after() -> Results:
    """What it did afterwards."""
    return results("models/tuned/", 38, 12, 14, by_category={"<b>bold</b>": wilson(9, 10)})


@pytest.fixture(scope="session")
def page(run, record, before, after) -> Path:
    """The report of everything that a run can have: data, training, and results before and after."""
    from star_hf.report import write_report

    folder = run.folder.parent
    (folder / "model").mkdir()
    record.save(folder / "model")
    results = [one.save(folder / name).parent for name, one in (("before", before), ("after", after))]
    return write_report(run, folder / "report.html", training=folder / "model", results=results)
