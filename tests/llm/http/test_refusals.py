"""Errors of providers: what concerns one request, what concerns the endpoint, and remedies that work to the letter."""

import json

import pytest

from batch_server import BatchServer
from model_server import ModelServer, Reply
from shouter import Shouter, shouted, some_rows
from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Endpoint, annotate


ENDPOINT_WIDE = {
    "model": {
        "message": "The requested model 'm' is not supported by any provider you have enabled.",
        "code": "model_not_supported",
    },
    "model 2": {"message": "Model m does not exist"},
    "model 3": {"message": "The model `m` has been deprecated", "code": "invalid_request_error"},
    "key": {"message": "Incorrect API key provided: sk-x***", "type": "invalid_request_error"},
    "key 2": {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"},
    "key 3": {"message": "bad", "code": "InvalidApiKey"},
    "credit": {"message": "Your credit balance is too low to access the API."},
    "credit 2": {"message": "Access denied", "code": "Arrearage"},
    "credit 3": {"message": "Billing hard limit has been reached", "code": "billing_hard_limit_reached"},
    "credit 4": {"message": "Insufficient Balance"},
    "credit 5": {"message": "您的账户已欠费，请充值后重试", "code": "1113"},
    "stream": {"message": "This model only support stream mode, please enable the stream parameter"},
    "stream 2": {"message": "Streaming is required for this model"},
    "option": {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "code": "unsupported_parameter",
    },
    "option 2": {"message": "max_tokens is too large: 100000. This model supports at most 16384 tokens"},
    "option 3": {"message": "'response_format.type' json_schema is not supported by this model"},
}
FILTERED = {
    "DeepSeek": {"message": "Content Exists Risk", "type": "invalid_request_error", "code": "invalid_request_error"},
    "DashScope": {"message": "Input data may contain inappropriate content.", "code": "data_inspection_failed"},
    "OpenAI": {"message": "Invalid prompt: your prompt was flagged as violating our policy", "code": "invalid_prompt"},
    "Azure": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "code": "content_filter",
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    },
    "litellm": {"message": "litellm.BadRequestError: litellm.ContentPolicyViolationError: no", "code": "400"},
    "Zhipu": {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容", "code": "1301"},
    "Moonshot": {"message": "The request was rejected because it was considered high risk", "type": "content_filter"},
    "a plain sentence": "Your request was rejected by our safety system.",
}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-real-key")


def run(server, journal, rows=20, **options):
    settings = {"concurrency": 2, "max_retries": 1, **options.pop("endpoint", {})}
    endpoint = Endpoint(model="m", base_url=server.url, **settings)
    return annotate(some_rows(rows), Shouter(), endpoint, journal, progress=False, **options)


def refusing(error, status=400):
    return lambda body, before: Reply(status=status, raw=json.dumps({"error": error}).encode())


@pytest.mark.parametrize("kind", ENDPOINT_WIDE)
def test_what_concerns_the_endpoint_stops_at_once_and_leaves_nothing_behind(journal, kind):
    with ModelServer(refusing(ENDPOINT_WIDE[kind])) as server:
        with pytest.raises(ConfigError) as caught:
            run(server, journal)
        assert len(server.requests) <= 4 and len(journal) == 0
        server.rule = shouted  # somebody mends it, and runs the same command again
        assert len(run(server, journal).rows) == 20
    word = {"model": "model", "key": "OPENAI_API_KEY", "credit": "credit", "stream": "stream", "option": "option"}
    assert word[kind.split()[0]] in caught.value.remedy


def test_credit_that_ends_in_the_middle_keeps_what_was_paid(journal):
    def ends(body, before):
        over = int(body["messages"][0]["content"].split()[-1]) > 9
        return refusing(ENDPOINT_WIDE["credit"])(body, before) if over and broke else shouted(body, before)

    broke = True
    with ModelServer(ends) as server:
        with pytest.raises(ConfigError, match="credit balance"):
            run(server, journal)
        assert 8 <= len(journal) <= 10
        broke = False
        assert len(run(server, journal).rows) == 20 and set(server.paid.values()) == {1}


def test_the_remedy_for_a_model_that_only_streams_works(journal):
    def only_streams(body, before):
        if not body.get("stream"):
            return refusing(ENDPOINT_WIDE["stream"])(body, before)
        chunk = {"choices": [{"delta": {"content": shouted(body, before)}, "finish_reason": "stop"}]}
        return Reply(raw=f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode())

    with ModelServer(only_streams) as server:
        with pytest.raises(ConfigError, match=r"extra_body: \{stream: true\}"):
            run(server, journal)
        assert len(run(server, journal, endpoint={"extra_body": {"stream": True}}).rows) == 20


UNKNOWN = [
    {"message": "This model's maximum context length is 512 tokens. However, you requested 8000 tokens."},
    {"message": "'max_tokens' is too large: 8000. This model's maximum context length is 512 tokens."},
    {"message": "Bad request"},
]


@pytest.mark.parametrize("rows", [1, 2, 20])
@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: error["message"][:10])
def test_a_server_that_rejects_everything_and_is_mended_is_asked_again(journal, error, rows):
    with ModelServer(refusing(error)) as server:
        with pytest.raises((ConfigError, IncompleteRunError), match=error["message"][:20]):
            run(server, journal, rows=rows)
        assert len(server.requests) <= 4
        server.rule = shouted
        assert len(run(server, journal, rows=rows).rows) == rows


@pytest.mark.parametrize("error", UNKNOWN[:2], ids=["context", "max_tokens"])
def test_a_prompt_that_is_too_long_is_the_rows_fault_and_stops_no_stage(journal, error):
    def one_is_long(body, before):
        long = body["messages"][0]["content"].endswith(" 7")
        return refusing(error)(body, before) if long else shouted(body, before)

    with ModelServer(one_is_long) as server:
        outcome = run(server, journal, max_unusable=0.1)
        assert outcome.removed["reason"][:] == ["invalid_request"] and len(server.requests) == 20


def test_rejections_beyond_what_is_accepted_are_sent_again_once_and_those_within_are_kept(journal):
    def some_rejected(body, before):
        number = int(body["messages"][0]["content"].split()[-1])
        return refusing(UNKNOWN[0])(body, before) if number in bad else shouted(body, before)

    bad = {3, 7, 11, 15}
    with ModelServer(some_rejected) as server:
        with pytest.raises(IncompleteRunError, match="4 invalid_request"):
            run(server, journal)
        assert len(server.requests) == 20
        with pytest.raises(IncompleteRunError, match="4 invalid_request"):
            run(server, journal)
        assert len(server.requests) == 24
        bad = {3}
        assert len(run(server, journal, max_unusable=0.1).rows) == 19 and len(server.requests) == 28
        run(server, journal, max_unusable=0.1)
        assert len(server.requests) == 28 and set(server.paid.values()) == {1}


@pytest.mark.parametrize("status", [400, 403, 500])
@pytest.mark.parametrize("name", FILTERED)
def test_a_filter_of_any_provider_is_a_filter_and_the_row_is_named_once(journal, name, status):
    def rule(body, before):
        filtered = body["messages"][0]["content"].endswith(" 0")
        return refusing(FILTERED[name], status)(body, before) if filtered else shouted(body, before)

    with ModelServer(rule) as server:
        outcome = run(server, journal, rows=4, max_unusable=0.5)
        assert outcome.removed["reason"][:] == ["content_filter"] and len(server.requests) == 4


@pytest.mark.parametrize("error", [{"message": "rate limit reached", "code": 429}, "busy", {"type": "server_error"}])
def test_a_passing_error_is_not_taken_for_a_lasting_one(journal, error):
    def rule(body, before):
        return shouted(body, before) if before else Reply(raw=json.dumps({"error": error}).encode())

    with ModelServer(rule) as server:
        assert len(run(server, journal, rows=2).rows) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(journal, status):
    with ModelServer(shouted) as thief:
        rule = lambda body, before: Reply(status=status, headers={"Location": f"{thief.url}/chat/completions"})  # noqa: E731
        with ModelServer(rule) as server, pytest.raises(ConfigError, match="a redirect to 127.0.0.1.*not followed"):
            run(server, journal)
        assert not thief.requests and not thief.keys and len(journal) == 0


BATCH = {"batch": {"at_least": 1, "poll_s": 0.01}, "name": "b", "price": {"input": 2.0, "output": 10.0}}


@pytest.mark.parametrize("kind", ["model", "key", "credit", "option"])
def test_what_concerns_the_endpoint_is_not_kept_of_a_batch_and_the_rest_stays_at_its_price(journal, kind, monkeypatch):
    def ends(body, before):
        over = int(body["messages"][0]["content"].split()[-1]) > 9
        return refusing(ENDPOINT_WIDE[kind])(body, before) if over and broke else shouted(body, before)

    broke = True
    with BatchServer(ends) as server:
        with pytest.raises(ConfigError, match="answered 400"):
            run(server, journal, endpoint=BATCH)
        assert len(journal) == 10 and server.live == 0
        broke = False
        outcome = run(server, journal, endpoint=BATCH)
        assert len(outcome.rows) == 20 and server.live == 0 and set(server.paid.values()) == {1}
    assert outcome.provenance["cost_usd"][:] == pytest.approx([150e-6] * 20)


def test_an_open_batch_costs_a_batchs_price_after_batches_are_switched_off(journal):
    with BatchServer(shouted, looks=10_000) as server:
        with pytest.raises(IncompleteRunError):
            run(server, journal, endpoint={**BATCH, "deadline_s": 0.3})
        server.looks = 1
        outcome = run(server, journal, endpoint={**BATCH, "batch": False})
        assert server.live == 0
    assert outcome.provenance["cost_usd"][:] == pytest.approx([150e-6] * 20)


def test_what_stays_in_the_journal_is_removed_by_the_command_that_is_printed(journal, tmp_path):
    from typer.testing import CliRunner

    from star_hf.cli import app

    with ModelServer(lambda body, before: Reply("cut", finish_reason="odd")) as server:
        with pytest.raises(IncompleteRunError) as caught:
            run(server, journal)
        printed = caught.value.remedy.split("`star-hf ")[1].split("`")[0].split()
        server.rule = shouted
        assert CliRunner().invoke(app, printed).exit_code == 0
        assert len(run(server, journal).rows) == 20
