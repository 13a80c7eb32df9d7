"""A finished run, built once against a model server on loopback, with texts that try to break out of a page."""

import json
import os
from pathlib import Path

import pytest

from model_server import ModelServer, star_answers
from star_hf.build import build
from star_hf.config import BuildConfig
from star_hf.run import Run


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
def page(run) -> Path:
    """The run's report."""
    pytest.importorskip("plotly")
    from star_hf.report import write_report

    return write_report(run, run.folder.parent / "report.html")
