import json
import logging
import time
from collections import Counter

import pytest

from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError, StarError
from star_hf.llm import Budget, Completion, Endpoint, Journal, annotate
from star_hf.llm.journal import Entry
from star_hf.llm.parsing import parse_json
from star_hf.llm.walk import Walk
from star_hf.schema import COLLECTED, as_dataset


KEY = "sk-not-a-real-key"


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def make(server, **options):
        return Endpoint(model="test-model", base_url=server.url, max_retries=2, **options)

    return make


def run(rows, endpoint, journal, **options):
    return annotate(rows, Shouter(), endpoint, journal, progress=False, **options)


def test_every_row_gets_its_own_answer_and_a_receipt(endpoint, journal):
    with ModelServer(shouted) as server:
        outcome = run(some_rows(50), endpoint(server, price={"input": 2.0, "output": 10.0}), journal)
    assert outcome.rows["loud"][:] == [f"QUESTION {i}" for i in range(50)]
    assert len(outcome.removed) == 0
    receipt = outcome.provenance[7]
    assert receipt["id"] == f"{7:016x}" and receipt["attempts"] == 1 and receipt["model"] == "test-model"
    assert receipt["cost_usd"] == pytest.approx((100 * 2.0 + 10 * 10.0) / 1e6)
    assert receipt["request_key"] in journal


def test_a_second_run_pays_nothing_and_gives_the_same_rows(endpoint, journal):
    with ModelServer(shouted) as server:
        first = run(some_rows(20), endpoint(server), journal)
        second = run(some_rows(20), endpoint(server), journal)
        assert len(server.requests) == 20
    assert first.rows.to_list() == second.rows.to_list()
    assert first.provenance.to_list() == second.provenance.to_list()


class Counting(Shouter):
    """Counts how often a row was put into words, and from the second time on does so otherwise where told to."""

    def __init__(self, steady):
        self.steady, self.worded = steady, Counter()

    def messages(self, row):
        self.worded[row["id"]] += 1
        asked = super().messages(row)
        again = "" if self.steady else f" (time {self.worded[row['id']]})"
        return [{**message, "content": message["content"] + again} for message in asked]


def test_a_row_is_put_into_words_once_and_not_again_to_find_its_answer(endpoint, journal):
    annotator = Counting(steady=True)
    with ModelServer(shouted) as server:
        outcome = annotate(some_rows(1_100), annotator, endpoint(server), journal, progress=False)
    assert outcome.rows["loud"][:] == [f"QUESTION {n}" for n in range(1_100)]
    assert outcome.provenance["id"][:] == outcome.rows["id"][:]
    counts = Counter(annotator.worded.values())
    assert counts == {1: 1_097, 2: 2, 3: 1}, "the first shows what is open, and three of them are checked"


def test_an_annotator_that_words_the_same_row_otherwise_each_time_is_found_out(endpoint, journal):
    with ModelServer(shouted) as server, pytest.raises(IncompleteRunError, match="still open") as caught:
        annotate(some_rows(5), Counting(steady=False), endpoint(server), journal, progress=False)
    assert "must give the same messages" in str(caught.value)


def test_equal_questions_are_paid_once(endpoint, journal):
    rows = as_dataset([{"id": str(i), "question": "same", "source": "test"} for i in range(10)], COLLECTED)
    with ModelServer(shouted) as server:
        outcome = run(rows, endpoint(server), journal)
        assert len(server.requests) == 1
    assert len(outcome.rows) == 10


@pytest.mark.parametrize("change", ["prompt", "model", "temperature", "seed"])
def test_whatever_can_change_the_answer_is_asked_anew(endpoint, journal, monkeypatch, change):
    with ModelServer(shouted) as server:
        asked = endpoint(server)
        run(some_rows(3), asked, journal)
        if change == "prompt":
            monkeypatch.setattr(Shouter, "prompt", "v2")
        else:
            value = {"model": "other-model", "temperature": 0.5, "seed": 1}[change]
            asked = asked.model_copy(update={change: value})
        run(some_rows(3), asked, journal)
        assert len(server.requests) == 6


@pytest.mark.parametrize("change", [{"concurrency": 2}, {"timeout_s": 5.0}, {"price": {"input": 1, "output": 1}}])
def test_what_cannot_change_the_answer_is_not_asked_anew(endpoint, journal, change):
    with ModelServer(shouted) as server:
        run(some_rows(3), endpoint(server), journal)
        run(some_rows(3), endpoint(server, **change), journal)
        assert len(server.requests) == 3


def test_malformed_answers_are_asked_again_a_bounded_number_of_times(endpoint, journal):
    def prose_first(body, before):
        question = body["messages"][0]["content"]
        if question.endswith(" 0"):
            return "Sure, happily!"
        if question.endswith(" 1") and len(body["messages"]) == 1:
            return "Sure, happily!"
        return shouted(body, before)

    with ModelServer(prose_first) as server:
        asked = endpoint(server, price={"input": 2.0, "output": 10.0})
        outcome = run(some_rows(3), asked, journal, max_unusable=0.5)
        assert len(server.requests) == 3 + 2 + 1
        again = run(some_rows(3), asked, journal, max_unusable=0.5)
        assert len(server.requests) == 6
    assert outcome.rows["id"][:] == [f"{1:016x}", f"{2:016x}"]
    assert outcome.removed[0]["reason"] == "malformed" and outcome.removed[0]["stage"] == "shout"
    assert outcome.provenance["attempts"][:] == [3, 2, 1]
    assert outcome.provenance["prompt_tokens"][:] == [300, 200, 100]
    assert outcome.provenance["completion_tokens"][:] == [30, 20, 10]
    assert [round(cost * 1e6) for cost in outcome.provenance["cost_usd"]] == [900, 600, 300], "each reply was paid"
    assert again.provenance.to_list() == outcome.provenance.to_list()
    told = [body for body in server.requests if len(body["messages"]) > 1]
    assert all("Not the JSON object" in body["messages"][-1]["content"] for body in told)


def test_second_questions_of_earlier_versions_are_found_again(journal):
    """Their keys have the words of `ASK_AGAIN` and of the parser in them."""

    class Strict(Shouter):
        def parse(self, completion, row):
            return parse_json(completion.text)

    said = {
        "prose": "The reply holds no JSON object.",
        "[1]": "A JSON object was expected, not a list.",
        '{"a": 1} {"a": 2}': "The reply holds more than one JSON object.",
        '{"a": 1, "a": 2}': "The reply is not valid JSON: a key stands twice.",
        '{"a": NaN}': "The reply is not valid JSON: NaN is not a number.",
    }
    walk = Walk(Strict(), Endpoint(model="m", provider="vllm", name="ours"), journal, 2, None)
    for number, (reply, problem) in enumerate(said.items()):
        row = some_rows(number + 1)[number]
        journal.put(Entry(walk.follow(row).key, "shout", "ours", "v1", Completion(reply), None))
        request = walk.follow(row).request
        assert request.messages[-1]["content"] == (
            f"Your reply could not be used: {problem} Reply again, "
            "in exactly the form asked for and with nothing else."
        )
    assert walk.follow(row).key == "abbc3c90b75b503f94b66e88b22f9fad6f2cbe113e1b4294abff7ea0fcbe3957"


def test_of_a_long_malformed_answer_only_the_beginning_is_sent_back(endpoint, journal):
    with ModelServer(lambda body, before: shouted(body, before) if body["messages"][1:] else "x" * 100_000) as server:
        assert len(run(some_rows(1), endpoint(server), journal).rows) == 1
        assert server.requests[1]["messages"][1]["content"] == "x" * 4_000


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply('{"loud": "cut', finish_reason="length"), "truncated"),
        (Reply("", finish_reason="content_filter"), "content_filter"),
        (Reply(message={"refusal": "I would rather not."}), "refused"),
        (Reply(status=400, error={"code": "content_filter"}), "content_filter"),
        (Reply(status=400, error={"message": "prompt too long"}), "invalid_request"),
        (Reply(status=413, error={"message": "body too large"}), "invalid_request"),
        (Reply(status=422, error={"message": "prompt too long"}), "invalid_request"),
    ],
)
def test_a_failure_has_a_name_and_is_no_answer(endpoint, journal, reply, reason):
    with ModelServer(
        lambda body, before: reply if body["messages"][0]["content"].endswith(" 0") else shouted(body, before)
    ) as server:
        outcome = run(some_rows(4), endpoint(server), journal, max_unusable=0.5)
        sent = len(server.requests)
        run(some_rows(4), endpoint(server), journal, max_unusable=0.5)
        assert len(server.requests) == sent, "a permanent failure is not asked for again"
    assert outcome.removed["reason"][:] == [reason]
    assert len(outcome.rows) == 3


def test_the_journal_keeps_why_an_answer_ended_and_the_whole_account_of_its_tokens(endpoint, journal):
    account = {"prompt_tokens": 7, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 3}}
    odd = {"prompt_tokens": 7, "seconds": float("nan")}  # no JSON, yet some servers send it

    def reply(body, before):
        choice = {"message": {"content": shouted(body, before)}, "finish_reason": "eos_token"}
        usage = odd if body["messages"][0]["content"].endswith(" 0") else account
        return Reply(raw=json.dumps({"choices": [choice], "usage": usage}).encode())

    with ModelServer(reply) as server:
        assert len(run(some_rows(2), endpoint(server), journal).rows) == 2
    kept = "SELECT json_extract(completion, '$.finish_reason'), json_extract(completion, '$.usage') FROM responses"
    ends, usages = zip(*journal.execute(kept), strict=True)
    assert set(ends) == {"eos_token"} and set(usages) == {json.dumps(account), json.dumps({**odd, "seconds": None})}


def test_too_many_unusable_answers_fail_the_run_but_keep_the_answers(endpoint, journal):
    with ModelServer(lambda body, before: "prose") as server:
        with pytest.raises(IncompleteRunError, match="10 of 10 answers are unusable.* 10 malformed"):
            run(some_rows(10), endpoint(server), journal)
        sent = len(server.requests)
        with pytest.raises(IncompleteRunError):
            run(some_rows(10), endpoint(server), journal)
        assert len(server.requests) == sent == len(journal)


def test_a_model_whose_first_answers_are_of_no_use_is_not_paid_for_the_rest(endpoint, journal):
    with ModelServer(lambda body, before: "prose") as server:
        with pytest.raises(IncompleteRunError, match="first 100 answers 100 are unusable: .*JSON") as caught:
            run(some_rows(400), endpoint(server, concurrency=4), journal)
        assert 100 <= len(server.requests) == len(journal) <= 104
        assert "max_unusable" in caught.value.remedy
        assert len(run(some_rows(150), endpoint(server), journal, max_unusable=1.0).removed) == 150


def test_a_model_that_fails_on_fewer_than_half_of_its_first_rows_answers_all_of_them(endpoint, journal):
    def prose_for_every_third(body, before):
        number = int(body["messages"][0]["content"].split()[-1])
        return "prose" if number % 3 == 0 else shouted(body, before)

    with ModelServer(prose_for_every_third) as server:
        with pytest.raises(IncompleteRunError, match="100 of 300 answers are unusable"):
            run(some_rows(300), endpoint(server), journal, max_reasks=0)
        assert len(server.requests) == len(journal) == 300


def test_as_many_unusable_answers_as_are_accepted_do_not_fail_the_run(endpoint, journal):
    with ModelServer(
        lambda body, before: "prose" if " 0" in body["messages"][0]["content"] else shouted(body, 0)
    ) as server:
        assert len(run(some_rows(4), endpoint(server), journal, max_unusable=0.25).rows) == 3


def test_a_slow_answer_does_not_let_the_rest_be_paid(endpoint, journal):
    """The first answers are those that arrive first, not those of the first rows."""

    def prose(body, before):
        if body["messages"][0]["content"].endswith(" 0"):
            time.sleep(2)
        return "prose"

    with ModelServer(prose) as server:
        with pytest.raises(IncompleteRunError, match="first 100 answers 100 are unusable"):
            run(some_rows(400), endpoint(server, concurrency=4), journal)
        assert 100 <= len(server.requests) == len(journal) <= 104


def test_what_a_model_said_when_it_refused_is_not_shown(endpoint, journal):
    refusal = Reply(message={"refusal": "I will not explain question 0."})
    with ModelServer(lambda body, before: refusal) as server:
        with pytest.raises(IncompleteRunError, match="2 refused") as caught:
            run(some_rows(2), endpoint(server), journal)
    assert "explain" not in str(caught.value)


def test_a_few_rows_that_stay_unanswered_are_named(endpoint, journal):
    def one_fails(body, before):
        bad = body["messages"][0]["content"].endswith(" 7")
        return Reply(status=500, headers={"Retry-After-Ms": "1"}) if bad else shouted(body, before)

    with ModelServer(one_fails) as server:
        with pytest.raises(IncompleteRunError, match=f"no answer from .* for 1 of 9 rows .{7:016x}."):
            run(some_rows(9), endpoint(server), journal)


def one_row_fails_and_one_is_garbled(body, before):
    question = body["messages"][0]["content"]
    if question.endswith(" 7"):
        return Reply(status=500, headers={"Retry-After-Ms": "1"})
    return "prose" if question.endswith(" 3") and len(body["messages"]) == 1 else shouted(body, before)


def test_a_row_that_no_try_answers_leaves_as_unavailable_only_where_that_is_accepted(endpoint, journal):
    with ModelServer(one_row_fails_and_one_is_garbled) as server:
        with pytest.raises(IncompleteRunError, match="1 of 9 rows|2 of 9 rows") as refused:
            run(some_rows(9), endpoint(server), journal, max_unusable=0.2, accept_unavailable=False)
        outcome = run(some_rows(9), endpoint(server), journal, max_unusable=0.2, accept_unavailable=True)
        with pytest.raises(IncompleteRunError, match="1 of 9 answers are unusable.*1 unavailable.*answered 500"):
            run(some_rows(9), endpoint(server), journal, max_unusable=0.1, accept_unavailable=True)
    assert "--accept-unavailable" in refused.value.remedy
    assert len(outcome.rows) == 8 and len(outcome.provenance) == 8, "what was garbled was asked again, and answered"
    (left,) = outcome.removed
    assert (left["id"], left["reason"]) == (f"{7:016x}", "unavailable") and "answered 500" in left["detail"]


def test_a_budget_that_ended_makes_no_row_unavailable(endpoint, journal):
    with ModelServer(shouted) as server:
        asked = endpoint(server, price={"input": 1.0, "output": 1.0}, max_tokens=10)
        with pytest.raises(IncompleteRunError, match="the budget of"):
            run(some_rows(9), asked, journal, max_unusable=1.0, accept_unavailable=True, budget=Budget(0.0))


def test_transient_failures_are_retried(endpoint, journal):
    def stumble(body, before):
        return (
            Reply(status=(429, 503)[before % 2], headers={"Retry-After-Ms": "1"})
            if before < 2
            else shouted(body, before)
        )

    with ModelServer(stumble) as server:
        outcome = run(some_rows(5), endpoint(server), journal)
    assert len(outcome.rows) == 5
    assert sum(server.paid.values()) == 5


def test_when_the_provider_goes_down_everything_answered_is_kept(endpoint, journal):
    down = True

    def half(body, before):
        odd = int(body["messages"][0]["content"].split()[-1]) % 2
        return Reply(status=503, headers={"Retry-After-Ms": "1"}) if down and odd else shouted(body, before)

    with ModelServer(half) as server:
        with pytest.raises(IncompleteRunError, match="of 20 rows"):
            run(some_rows(20), endpoint(server, concurrency=2), journal)
        kept = len(journal)
        assert 0 < kept <= 10
        down = False
        outcome = run(some_rows(20), endpoint(server, concurrency=2), journal)
        assert sum(server.paid.values()) == 20 and max(server.paid.values()) == 1
    assert len(outcome.rows) == 20


def test_a_provider_that_is_down_is_not_asked_for_every_row(endpoint, journal):
    with ModelServer(lambda body, before: Reply(status=503, headers={"Retry-After-Ms": "1"})) as server:
        with pytest.raises(IncompleteRunError, match="500 of 500"):
            run(some_rows(500), endpoint(server, concurrency=4), journal)
        assert len(server.requests) < 50


def test_an_unreachable_endpoint_is_named_with_what_to_do(endpoint, journal):
    with ModelServer(shouted) as server:
        pass
    with pytest.raises(IncompleteRunError) as caught:
        run(some_rows(2), endpoint(server), journal)
    assert server.url in caught.value.message and "same command again" in caught.value.remedy


def test_dropped_connections_and_half_bodies_are_retried(endpoint, journal):
    replies = [Reply(drop=True), Reply(raw=b'{"choices": [{"mess')]
    with ModelServer(lambda body, before: replies[before] if before < 1 else shouted(body, before)) as server:
        assert len(run(some_rows(3), endpoint(server), journal).rows) == 3


@pytest.mark.parametrize(
    ("status", "word"),
    [(401, "OPENAI_API_KEY"), (402, "credit"), (403, "account"), (404, "base_url"), (405, "base_url"), (410, "model")],
)
def test_a_refused_key_or_model_stops_at_once_and_says_what_to_check(endpoint, journal, status, word):
    with ModelServer(lambda body, before: Reply(status=status)) as server:
        with pytest.raises(ConfigError) as caught:
            run(some_rows(200), endpoint(server, concurrency=2), journal)
        assert len(server.requests) <= 4
    assert word in caught.value.remedy


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_provider_that_repeats_the_key_does_not_make_us_repeat_it(endpoint, journal, status):
    said = "no good: " + "x" * 270 + KEY
    with ModelServer(lambda body, before: Reply(status=status, error={"message": said})) as server:
        with pytest.raises(StarError, match=r"\[the key\]") as caught:
            run(some_rows(1), endpoint(server, concurrency=1), journal)
    kept = str(list(journal.execute("SELECT * FROM responses")))
    assert KEY[:8] not in str(caught.value) + kept


def test_a_missing_key_is_named_before_anything_is_sent(journal, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY is not set"):
        run(some_rows(1), Endpoint(model="m"), journal)


def test_the_key_is_sent_but_never_written(endpoint, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    with ModelServer(shouted) as server, Journal(tmp_path / "journal.sqlite") as journal:
        asked = endpoint(server)
        outcome = run(some_rows(3), asked, journal)
        assert server.keys == {f"Bearer {KEY}"}
    outcome.provenance.to_parquet(tmp_path / "provenance.parquet")
    for path in tmp_path.iterdir():
        assert KEY.encode() not in path.read_bytes(), path.name
    assert KEY not in caplog.text and KEY not in repr(asked)


def test_hostile_answers_are_data(endpoint, journal):
    hostile = [
        "__import__('os').getcwd()",
        "{{ 7 * 7 }}",
        "<script>alert(1)</script>",
        "\x00",
        "\ud800",
        "x" * 5_000_000,
    ]
    with ModelServer(
        lambda body, before: json.dumps({"loud": hostile[int(body["messages"][0]["content"].split()[-1])]})
    ) as server:
        outcome = run(some_rows(len(hostile)), endpoint(server), journal)
    answers = [row["loud"] for row in outcome.rows]
    assert answers[:4] == hostile[:4] and answers[5] == hostile[5]


def test_works_inside_a_running_loop(endpoint, journal):
    import asyncio

    with ModelServer(shouted) as server:

        async def notebook():
            return run(some_rows(3), endpoint(server), journal)

        assert len(asyncio.run(notebook()).rows) == 3


def test_a_thought_field_reaches_the_annotator(endpoint, journal):
    seen = []

    class Listener(Shouter):
        def parse(self, completion, row):
            seen.append(completion.reasoning)
            return {"loud": completion.text}

    for field in ("reasoning_content", "reasoning"):
        with ModelServer(lambda body, before, field=field: Reply("answer", message={field: f"by {field}"})) as server:
            annotate(some_rows(1), Listener(), endpoint(server, name=field), journal, progress=False)
    assert set(seen) == {"by reasoning_content", "by reasoning"}
