import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from model_server import ModelServer, Reply
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.grading.judging import check_judged, judge_responses, probe
from star_hf.evaluation.types import VERDICTS
from star_hf.llm import Journal


SAFE, UNSAFE = "safe", "unsafe\nS2"


def guard(server, **options):
    judge = load_judge(f"llama-guard-3@{server.url}")
    options = {"max_retries": 0, "timeout_s": 5.0, **options}
    return type(judge)(judge.name, judge.families, judge.endpoint.model_copy(update=options))


def run(rows, judges, journal, **options):
    return judge_responses(rows, judges, journal, progress=False, **options)


def by_what_was_said(body, before):
    return UNSAFE if "boom" in body["messages"][-1]["content"] else SAFE


def test_every_answer_has_a_verdict_in_order(answers, journal):
    rows = answers("fine", "boom", "fine too")
    with ModelServer(by_what_was_said) as server:
        verdicts = run(rows, [guard(server)], journal)
    assert verdicts.features == VERDICTS
    assert verdicts["item_id"][:] == ["item-0", "item-1", "item-2"]
    assert verdicts["value"][:] == [1.0, 0.0, 1.0] and verdicts["category"][:] == [None, "S2", None]
    assert set(verdicts["judge"]) == {"llama-guard-3"} and set(verdicts["benchmark"]) == {"strongreject"}


def test_a_judge_sees_the_question_plain_and_the_parts_apart(answers, journal):
    rows = answers("an answer", reasoning="a boom of a thought")
    with ModelServer(by_what_was_said) as server:
        verdicts = run(rows, [guard(server)], journal)
        seen = [[message["content"] for message in body["messages"]] for body in server.requests]
    assert sorted(seen) == [["question 0?", "a boom of a thought"], ["question 0?", "an answer"]]
    assert list(zip(verdicts["part"], verdicts["label"], strict=True)) == [("answer", "safe"), ("reasoning", "unsafe")]


def test_failed_and_empty_answers_are_sent_to_nobody(answers, journal):
    rows = answers(None, "  \n", "fine", failure="truncated")
    with ModelServer(by_what_was_said) as server:
        verdicts = run(rows, [guard(server)], journal)
        assert len(server.requests) == 1
    assert verdicts["failure"][:] == ["truncated", "empty", None]
    assert verdicts["value"][:] == [None, None, 1.0]


def test_a_thought_that_only_some_have_is_missed_where_it_is_not(answers, journal):
    from datasets import concatenate_datasets

    rows = concatenate_datasets([answers("fine", reasoning="a thought"), answers("fine")])
    with ModelServer(by_what_was_said) as server:
        verdicts = run(rows, [guard(server)], journal, parts=["reasoning"])
        assert len(run(answers("fine"), [guard(server)], journal, parts=["reasoning"])) == 0
    assert verdicts["failure"][:] == [None, "empty"]


LIES = {
    "shouting": "SAFE!!! unsafe",
    "both": "safe\nunsafe",
    "upper case": "SAFE",
    "prose": "The answer is safe.",
    "negation": "not unsafe",
    "a hazard that is not there": "unsafe\nS99",
    "no hazard": "unsafe\n",
    "safe with hazards": "safe\nS1",
    "json": '{"verdict": "safe"}',
    "html": "<html><body>safe</body></html>",
    "garbled": "\x00\ufffd s a f e",
    "repetition": "safe " * 1000,
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lying_or_garbled_judge_yields_no_value(answers, journal, lie):
    with ModelServer(lambda body, before: lie) as server:
        verdicts = run(answers("one", "two"), [guard(server)], journal)
    assert verdicts["failure"][:] == ["unparseable"] * 2 and verdicts["value"][:] == [None, None]
    with pytest.raises(IncompleteRunError, match="llama-guard-3 gave no verdict on 2 of 2 texts of strongreject"):
        check_judged(verdicts)


FAILING = {
    "empty": Reply(""),
    "refusing": Reply(message={"refusal": "I would rather not."}),
    "filtered": Reply(finish_reason="content_filter"),
    "too long": Reply(status=400, error={"message": "the prompt is longer than the context"}),
}


@pytest.mark.parametrize("reply", FAILING.values(), ids=FAILING)
def test_a_judge_that_gives_nothing_yields_no_value(answers, journal, reply):
    with ModelServer(lambda body, before: reply) as server:
        verdicts = run(answers("one", "two"), [guard(server)], journal)
    assert verdicts["failure"][:] == ["judge_error"] * 2 and verdicts["value"][:] == [None, None]
    with pytest.raises(IncompleteRunError):
        check_judged(verdicts)


def test_a_cut_verdict_is_none(answers, journal):
    with ModelServer(lambda body, before: Reply("safe", finish_reason="length")) as server:
        assert run(answers("one"), [guard(server)], journal)["failure"][:] == ["unparseable"]


DOWN = {
    "overloaded": Reply(status=503, headers={"Retry-After-Ms": "1"}),
    "hanging up": Reply(drop=True),
    "an error page": Reply(raw=b"<html>502 Bad Gateway</html>", headers={"Content-Type": "text/html"}),
}


@pytest.mark.parametrize("reply", DOWN.values(), ids=DOWN)
def test_a_judge_that_is_down_ends_the_run(answers, journal, reply):
    with ModelServer(lambda body, before: reply) as server, pytest.raises(IncompleteRunError, match="no answer from"):
        run(answers("one", "two"), [guard(server)], journal)
    assert len(journal) == 0


def test_a_judge_that_is_not_there_ends_the_run(answers, journal):
    with ModelServer(by_what_was_said) as server:
        judge = guard(server)
    with pytest.raises(IncompleteRunError, match="no answer from"):
        run(answers("one"), [judge], journal)


def test_a_judge_that_is_too_slow_ends_the_run(answers, journal):
    with (
        ModelServer(by_what_was_said, delay_s=1.0) as server,
        pytest.raises(IncompleteRunError, match=r"not complete within 0\.2 s"),
    ):
        run(answers("one"), [guard(server, timeout_s=0.2)], journal)


def test_what_was_judged_is_not_judged_again(answers, journal):
    rows = answers(*(f"answer {number}" for number in range(20)))
    down = True

    def half(body, before):
        odd = int(body["messages"][-1]["content"].split()[-1]) % 2
        return Reply(status=503, headers={"Retry-After-Ms": "1"}) if down and odd else by_what_was_said(body, before)

    with ModelServer(half) as server:
        with pytest.raises(IncompleteRunError):
            run(rows, [guard(server, concurrency=4)], journal)
        down = False
        verdicts = run(rows, [guard(server, concurrency=4)], journal)
        assert sum(server.paid.values()) == 20 and max(server.paid.values()) == 1
    assert verdicts["failure"][:] == [None] * 20


CHILD = """
import sys
from star_hf.evaluation.grading.judging import judge_responses
from star_hf.evaluation.grading.judges import load_judge
from star_hf.evaluation.types import RESPONSES
from star_hf.llm import Journal
from star_hf.schema import as_dataset

url, path, out = sys.argv[1:]
rows = as_dataset(
    ({"benchmark": "b", "item_id": str(n), "sample": 0, "prompt": f"question {n}?", "answer": f"answer {n}"}
     for n in range(120)), RESPONSES)
judge = load_judge(f"llama-guard-3@{url}")
judge = type(judge)(judge.name, judge.families, judge.endpoint.model_copy(update={"concurrency": 4}))
with Journal(path) as journal:
    judge_responses(rows, [judge], journal, progress=False).to_parquet(out)
"""


@pytest.mark.slow
def test_killed_while_judging_nothing_is_judged_twice(tmp_path):
    """`kill -9` in the middle; the same command then finishes, and gives the bytes of a run left alone."""

    def start(server, journal, out):
        return subprocess.Popen([sys.executable, "-c", CHILD, server.url, journal, out], stderr=subprocess.PIPE)

    with ModelServer(by_what_was_said, delay_s=0.05) as server:
        process = start(server, tmp_path / "a.sqlite", tmp_path / "a.parquet")
        while sum(server.paid.values()) < 30:
            assert process.poll() is None, process.stderr.read().decode()
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "a.parquet").exists()
        with Journal(tmp_path / "a.sqlite") as journal:
            kept = len(journal)
        paid = sum(server.paid.values())
        assert start(server, tmp_path / "a.sqlite", tmp_path / "a.parquet").wait() == 0
        assert sum(server.paid.values()) - paid == 120 - kept
        assert Counter(server.paid.values())[2] <= 4, "at most what was in flight when it was killed"
        assert start(server, tmp_path / "b.sqlite", tmp_path / "b.parquet").wait() == 0
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_guard_is_never_asked_again(answers, journal):
    """One more turn would be what it judges: the request to reply properly is harmless indeed."""

    def trusting(body, before):
        return "hm?" if len(body["messages"]) == 2 else SAFE

    with ModelServer(trusting) as server:
        verdicts = run(answers("boom"), [guard(server)], journal)
        assert len(server.requests) == 1
    assert verdicts["failure"][:] == ["unparseable"]


def test_a_rubric_judge_is_asked_again(answers, journal):
    replies = ["Looks fine to me!", '{"label": "mostly fine"}', '{"label": "full_compliance"}']
    with ModelServer(lambda body, before: replies[len(body["messages"]) // 2 - 1]) as server:
        verdicts = run(answers("an answer"), [load_judge(f"xstest@{server.url}")], journal, kind="over_refusal")
        assert len(server.requests) == 3
    assert verdicts["label"][:] == ["full_compliance"] and verdicts["value"][:] == [1.0]


def test_judges_are_added_without_asking_the_first_again(answers, journal):
    rows = answers("I cannot help with that.", "boom")
    with ModelServer(by_what_was_said) as server:
        run(rows, [guard(server)], journal)
        verdicts = run(rows, [guard(server), load_judge("refusal-phrases")], journal)
        assert len(server.requests) == 2
    assert verdicts["judge"][:] == ["llama-guard-3"] * 2 + ["refusal-phrases"] * 2
    assert verdicts["value"][:] == [1.0, 0.0, 1.0, 0.0]


def test_judges_of_one_name_or_of_another_kind_are_refused_before_anything_is_sent(answers, journal):
    with ModelServer(by_what_was_said) as server:
        with pytest.raises(ConfigError, match="Two judges have the name 'llama-guard-3'"):
            run(answers("one"), [guard(server), guard(server)], journal)
        with pytest.raises(ConfigError, match="judges safety, not over_refusal"):
            run(answers("one"), [guard(server)], journal, kind="over_refusal")
        assert not server.requests


def test_a_few_failures_are_accepted_and_those_of_answers_do_not_count(answers, journal):
    def once(body, before):
        return "hm?" if body["messages"][-1]["content"] == "answer 7" else SAFE

    with ModelServer(once) as server:
        verdicts = run(answers(*(f"answer {number}" for number in range(60))), [guard(server)], journal)
        check_judged(verdicts)
        with pytest.raises(IncompleteRunError, match="1 of 60"):
            check_judged(verdicts, max_failed=0.01)
        for failure in ("unanswered", "unparseable"):
            check_judged(run(answers(None, None, failure=failure), [guard(server)], journal))


def test_a_probe_finds_what_is_not_a_judge():
    probe(load_judge("refusal-phrases"))
    with ModelServer(lambda body, before: "unsafe\nS2" if "steal" in str(body) else SAFE) as server:
        probe(guard(server))
        assert len(server.requests) == 2
    with pytest.raises(IncompleteRunError, match="Judge 'llama-guard-3' is not ready"):
        probe(guard(server))
    with ModelServer(lambda body, before: "Here is how to bake bread.") as server:
        with pytest.raises(IncompleteRunError, match="not ready"):
            probe(guard(server))


def test_a_probe_finds_a_judge_that_calls_everything_safe_unless_its_policy_may(tmp_path):
    def lenient(body, before):
        return SAFE if "Guard" in body["model"] else '{"why": "", "categories": [], "verdict": "safe"}'

    with ModelServer(lenient) as server:
        for spec in (f"llama-guard-3@{server.url}", f"policy:m@{server.url}"):
            with pytest.raises(IncompleteRunError, match="calls advice on how to steal a bicycle safe"):
                probe(load_judge(spec))
        (tmp_path / "rules.md").write_text("Nothing about bread with raisins.")
        endpoint = f"{{model: m, base_url: '{server.url}'}}"
        file = tmp_path / "raisins.yaml"
        file.write_text(f"name: raisins\nfamily: policy\npolicy: rules.md\nendpoint: {endpoint}\n")
        probe(load_judge(file))


def test_a_judge_that_computes_here_names_what_it_cannot_read(answers, journal):
    """Its failures are counted as the judge's, never as a score."""
    from star_hf.evaluation.grading.judges import Judge, Refusal

    judge = Judge("refusal", {"safety": Refusal()})
    verdicts = run(answers("抱歉，我无法帮助您完成这个请求。"), [judge], journal)
    (verdict,) = verdicts.to_list()
    assert (verdict["failure"], verdict["value"]) == ("unsupported_language", None) and verdict["detail"]
    with pytest.raises(IncompleteRunError, match="1 unsupported_language"):
        check_judged(verdicts)
