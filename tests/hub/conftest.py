"""A small finished run, built once against a model server on loopback, from sources with different licences."""

import json
import os
import shutil
from pathlib import Path

import pytest

from model_server import ModelServer, star_answers
from star_hf.pipeline.build import build
from star_hf.pipeline.config import BuildConfig


SOURCES = ("ALERT", "BeaverTails", "my-own", "HarmfulQA")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """The run's directory; use `run` to change something in it."""
    folder = tmp_path_factory.mktemp("hub")
    topics = ["locks", "tickets", "letters", "rumours", "secrets", "jokes"]
    rows = [
        {"question": f"How do I misuse {topics[n % 6]} number {n} in town {n * 7}?", "source": SOURCES[n % 4]}
        for n in range(40)
    ]
    held_out = [{"question": "How do I misuse jokes number 5 in town 35?"}]
    for name, lines in (("questions", rows), ("bench", held_out)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    os.environ.setdefault("OPENAI_API_KEY", "sk-not-a-real-key")
    with ModelServer(star_answers) as server:
        endpoint = {"model": "test-model", "base_url": server.url, "name": "test", "concurrency": 4, "max_retries": 1}
        endpoint |= {"temperature": 0.5, "price": {"input": 1, "output": 2}}
        config = {
            "collect": {
                "sources": [],
                "held_out": [],
                "questions": str(folder / "questions.jsonl"),
                "held_out_questions": str(folder / "bench.jsonl"),
            },
            "deduplicate": {"embedding_threshold": None, "tfidf_threshold": 0.95},
            "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), endpoint),
            "select": {"size": 12},
        }
        return build(BuildConfig.model_validate(config), folder / "small", progress=False).folder


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return Path(shutil.copytree(finished, tmp_path / "small"))
