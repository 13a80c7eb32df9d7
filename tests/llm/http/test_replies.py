"""What is read from replies of every shape, what is named, how often is paid, and what no key ever gets into."""

import gzip
import json
import tracemalloc
import zlib

import pytest

from model_server import ModelServer, Reply
from star_hf.llm import Endpoint, Request
from star_hf.llm.http import client
from star_hf.llm.http.pool import HttpProvider
from star_hf.llm.http.replies import body_of, completion_of


HELLO = Request([{"role": "user", "content": "hello"}])
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


def ask(reply, **options):
    """What is kept of one request to a server that always replies so, why it failed, and how often it was asked."""
    kept = {}
    with ModelServer(lambda body, before: reply) as server:
        options = {"max_retries": 6, **options}
        endpoint = Endpoint(provider="vllm", model="m", base_url=server.url, **options)
        failures = HttpProvider(endpoint).complete(iter([("key", HELLO)]), kept.__setitem__)
        return kept.get("key"), failures, len(server.requests)


def raw(message=None, finish_reason="stop", **fields):
    choice = {"message": message, "finish_reason": finish_reason}
    return Reply(raw=json.dumps({"choices": [choice], "model": "m", **fields}).encode())


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos", "eos_token", "end_turn", "stop_sequence", "", None])
def test_only_known_ends_are_whole_answers(reason):
    kept, _, asked = ask(Reply("hi", finish_reason=reason))
    assert (kept.outcome, kept.text, asked) == ("ok", "hi", 1)


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("length", "truncated"),
        ("LENGTH", "truncated"),
        ("max_tokens", "truncated"),
        ("model_length", "truncated"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("sensitive", "content_filter"),
        ("tool_calls", "unknown_finish"),
        ("function_call", "unknown_finish"),
        ("pause_turn", "unknown_finish"),
        ("nobody_foresaw_this", "unknown_finish"),
        ("null", "unknown_finish"),
        ("stopped", "unknown_finish"),
        (7, "unknown_finish"),
        ({"type": "length"}, "truncated"),
        ({"reason": "length"}, "unknown_finish"),
        (["length"], "unknown_finish"),
        (False, "unknown_finish"),
    ],
)
def test_every_other_end_has_a_name_and_is_paid_once(reason, outcome):
    kept, failures, asked = ask(Reply("hi and", finish_reason=reason))
    assert (kept.outcome, kept.text, asked) == (outcome, "hi and", 1) and not failures
    said = reason if isinstance(reason, str) else json.dumps(reason)
    assert outcome != "unknown_finish" or said in kept.detail


@pytest.mark.parametrize("reason", ["insufficient_system_resource", "error", "abort", "timeout"])
def test_an_end_that_says_try_again_is_never_an_answer(reason, monkeypatch):
    monkeypatch.setattr(client, "wait_s", lambda *_: 0.0)
    kept, failures, asked = ask(Reply("hi an", finish_reason=reason), max_retries=2)
    assert kept is None and asked == 3 and reason in failures[0]


def test_tries_that_were_broken_off_are_counted_as_paid(monkeypatch):
    monkeypatch.setattr(client, "wait_s", lambda *_: 0.0)
    replies = [Reply("hi an", finish_reason="abort"), Reply("hi an", finish_reason="abort"), Reply("hi and bye")]
    kept = {}
    with ModelServer(lambda body, before: replies[before]) as server:
        endpoint = Endpoint(provider="vllm", model="m", base_url=server.url)
        HttpProvider(endpoint).complete(iter([("key", HELLO)]), kept.__setitem__)
    assert kept["key"].text == "hi and bye"
    assert (kept["key"].prompt_tokens, kept["key"].completion_tokens) == (300, 30)


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": [{"type": "text", "text": "hi"}]}, "hi", None),
        ({"content": ["h", "i"]}, "hi", None),
        ({"content": [{"text": "hi"}]}, "hi", None),
        ({"content": [THOUGHT, {"type": "text", "text": "hi"}]}, "hi", "Hm."),
        ({"content": [{"type": "reasoning", "text": "Hm."}, {"type": "output_text", "text": "hi"}]}, "hi", "Hm."),
        ({"content": [{"type": "image_url", "image_url": "x"}, {"type": "text", "text": "hi"}]}, "hi", None),
        ({"content": {"type": "text", "text": "hi"}}, "hi", None),
        ({"content": {"loud": "HI"}}, '{"loud": "HI"}', None),
        ({"content": {"type": "greeting", "loud": "HI"}}, '{"type": "greeting", "loud": "HI"}', None),
        ({"content": {"text": "hi", "score": 3}}, '{"text": "hi", "score": 3}', None),
        ({"content": 3}, "3", None),
        ({"content": True}, "true", None),
        ({"content": "hi", "reasoning_content": ["H", "m."]}, "hi", "Hm."),
        ({"content": "hi", "reasoning_content": "Hm.", "reasoning": "Hm."}, "hi", "Hm."),
        ({"content": "hi", "reasoning_content": None, "reasoning": {"text": "Hm."}}, "hi", "Hm."),
        ({"content": "hi", "reasoning": False, "refusal": False}, "hi", None),
        ({"content": "hi", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]}, "hi", "Hm."),
        ("hi", "hi", None),
    ],
)
def test_content_of_any_shape_is_read_and_paid_once(message, text, reasoning):
    kept, failures, asked = ask(raw(message))
    assert (kept.outcome, kept.text, kept.reasoning, asked) == ("ok", text, reasoning, 1) and not failures


def test_a_refusal_among_the_parts_is_a_refusal():
    kept, _, asked = ask(raw({"content": [{"type": "refusal", "refusal": "Rather not."}]}))
    assert (kept.outcome, kept.detail, asked) == ("refused", "Rather not.", 1)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b'{"choices": [null]}'),
        Reply(raw=b'{"choices": [{}]}'),
        Reply(raw=b'{"choices": [{"message": null, "finish_reason": "stop"}]}'),
        raw({"content": [{"type": "tool_use", "id": "x"}]}),
    ],
)
def test_a_reply_without_a_message_that_can_be_read_is_named_and_paid_once(reply):
    kept, failures, asked = ask(reply)
    assert (kept.outcome, asked) == ("unreadable", 1) and kept.detail and not failures


@pytest.mark.parametrize("content", [None, "", " \n", "\u200b\ufeff", [], {"type": "text", "text": ""}])
def test_an_answer_without_text_is_asked_for_once_more_and_never_read_as_one(content):
    kept, _, asked = ask(raw({"content": content}))
    assert (kept.outcome, asked) == ("empty", 2)


STREAM = [
    {"id": "c1", "model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    {"choices": [{"delta": {"reasoning_content": "H"}}]},
    {"choices": [{"delta": {"reasoning_content": "m."}}]},
    {"choices": [{"delta": {"content": "h"}}]},
    {"choices": [{"delta": {"content": "i\n\nyou"}}]},
    {"choices": [{"delta": {}, "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 6}},
]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", ": keep-alive\n\n", "event: message\n"])
def test_an_event_stream_is_put_together(line_end, before):
    lines = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in STREAM) + "data: [DONE]\n\n"
    kept, _, asked = ask(Reply(raw=(before + lines).replace("\n", line_end).encode()))
    assert (kept.text, kept.reasoning, kept.outcome, asked) == ("hi\n\nyou", "Hm.", "truncated", 1)
    assert (kept.prompt_tokens, kept.completion_tokens, kept.provider_id) == (5, 6, "c1")


def events(*chunks):
    return Reply(raw="".join(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks).encode())


def said(text, **choice):
    return {"choices": [{"delta": {"content": text}, **choice}]}


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_only_ends_of_lines_of_the_protocol_end_a_line(mark):
    kept, _, asked = ask(events(said(f"h{mark}i"), said("", finish_reason="stop")))
    assert (kept.text, kept.outcome, asked) == (f"h{mark}i", "ok", 1)


def test_events_without_an_empty_line_between_them_are_read():
    reply = events(said("h"), said("i", finish_reason="stop"))
    kept, _, asked = ask(Reply(raw=reply.raw.replace(b"\n\n", b"\n") + b"data: [DONE]\n"))
    assert (kept.text, asked) == ("hi", 1)


def test_other_answers_in_a_stream_are_not_mixed_with_the_first():
    kept, _, _ = ask(events(said("no", index=1), said("hi", index=0), said("", index=0, finish_reason="stop")))
    assert (kept.text, kept.outcome) == ("hi", "ok")


@pytest.mark.parametrize(
    "reply",
    [
        events(said("hi an"), {"error": {"message": "boom", "code": 502}}),
        Reply(raw=events(said("hi an"), {"error": {"message": "boom"}}).raw + b"data: [DONE]\n\n"),
        Reply(raw=events(said("hi an")).raw + b'event: error\ndata: {"message": "boom"}\n\ndata: [DONE]\n\n'),
        events(said("hi an", error={"message": "boom"}), said("", finish_reason="stop")),
        raw({"content": "hi an"}, error={"message": "boom", "code": 502}),
        raw({"content": "hi an"}, error="boom"),
        Reply(raw=b'{"choices": [{"message": {"content": "hi an"}, "error": {"message": "boom"}}]}'),
    ],
)
def test_an_answer_beside_an_error_is_never_whole(reply, monkeypatch):
    monkeypatch.setattr(client, "wait_s", lambda *_: 0.0)
    kept, failures, asked = ask(reply, max_retries=1)
    assert kept is None and asked == 2 and "boom" in failures[0]


@pytest.mark.parametrize("error", [None, "", False, {}, {"code": None, "message": ""}])
def test_an_error_that_says_nothing_is_none(error):
    assert ask(raw({"content": "hi"}, error=error))[0].text == "hi"


def test_broken_characters_do_not_cost_the_answer():
    kept, _, asked = ask(Reply(raw=b'{"choices": [{"message": {"content": "caf\xe9 \xff!"}}]}'))
    assert (kept.text, asked) == ("caf\ufffd \ufffd!", 1)
    declared = {"Content-Type": "application/json; charset=iso-8859-1"}
    assert ask(Reply(raw=b'{"choices": [{"text": "caf\xe9"}]}', headers=declared))[0].text == "caf\xe9"
    unheard = {"Content-Type": "application/json; charset=klingon"}
    assert ask(Reply(raw=b'{"choices": [{"text": "caf\xe9"}]}', headers=unheard))[0].text == "caf\ufffd"
    for encoding in ("utf-8-sig", "utf-16", "utf-32"):
        assert body_of('{"a": "\u00e9"}'.encode(encoding)) == {"a": "\u00e9"}


@pytest.mark.parametrize(
    "body", [b"Bad gateway", b"<html>hi</html>", b"[]", b"null", b"7", b'"hi"', b'{"object": "list"}', b"\x00\x01"]
)
def test_a_body_that_is_none_of_an_api_is_not_asked_for_seven_times(body, monkeypatch):
    monkeypatch.setattr(client, "wait_s", lambda *_: 0.0)
    kept, failures, asked = ask(Reply(raw=body))
    assert kept is None and asked == 3 and "not a chat completion" in failures[0]


COUNTS = [10**19, 10**400, -5, float("inf"), float("-inf"), float("nan"), "12", True, None, [1], {"n": 1}, 1e300]


@pytest.mark.parametrize("count", COUNTS, ids=lambda count: str(count)[:8])
def test_impossible_token_counts_are_estimated(count, journal):
    kept, _, asked = ask(raw({"content": "hi" * 8}, usage={"prompt_tokens": count, "completion_tokens": count}))
    assert (kept.prompt_tokens, kept.completion_tokens, asked) == (2, 4, 1)
    assert not kept.usage or json.loads(kept.usage, parse_constant=pytest.fail)


@pytest.mark.parametrize("usage", [None, [], "none", 7, {"prompt_tokens_details": {"x": "y" * 20_000}}])
def test_an_odd_usage_record_does_not_cost_the_answer(usage):
    kept, _, asked = ask(raw({"content": "hi"}, usage=usage))
    assert (kept.text, kept.usage, asked) == ("hi", "", 1)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(7, "7"), ("\ud800m", "?m"), ("a\nb\tc", "a b c"), ({"a": 1}, ""), (["m"], ""), (None, ""), (True, ""),
     ("x" * 5_000, "x" * 200), (1.5, "1.5")],
)  # fmt: skip
def test_model_and_id_are_one_short_line_of_text(value, shown):
    kept = completion_of(json.loads(raw({"content": "hi"}, model=value, id=value).raw))
    assert kept.model == kept.provider_id == shown


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda data: zlib.compress(data)[2:-4]])
def test_a_packed_reply_is_unpacked(pack):
    encoding = "gzip" if pack is gzip.compress else "deflate"
    body = pack(json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode())
    assert ask(Reply(raw=body, headers={"Content-Encoding": encoding}))[0].text == "hi"


def test_a_reply_packed_in_several_members_is_whole():
    body = json.dumps({"choices": [{"message": {"content": "hi"}}]}).encode()
    packed = b"".join(gzip.compress(body[start : start + 20]) for start in range(0, len(body), 20))
    assert ask(Reply(raw=packed, headers={"Content-Encoding": "gzip"}))[0].text == "hi"


@pytest.mark.parametrize("packed", [True, False])
def test_a_reply_that_is_too_large_is_named_and_not_read_to_its_end(packed, monkeypatch):
    monkeypatch.setattr(client, "MOST_BYTES", 100_000)
    body = b'{"choices": [{"message": {"content": "' + b"x" * 50_000_000 + b'"}}]}'
    reply = Reply(raw=gzip.compress(body, 9), headers={"Content-Encoding": "gzip"}) if packed else Reply(raw=body)
    del body
    tracemalloc.start()
    try:
        kept, failures, asked = ask(reply)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (kept.outcome, kept.text, asked) == ("unreadable", "", 1) and "100,000" in kept.detail and not failures
    assert not packed or peak < 20_000_000, "of 50 MB no more than is needed was unpacked"


@pytest.mark.parametrize("encoding", ["br", "gzip", "nonsense"])
def test_a_body_that_cannot_be_unpacked_is_a_failure_that_says_so(encoding, monkeypatch):
    monkeypatch.setattr(client, "wait_s", lambda *_: 0.0)
    kept, failures, _ = ask(Reply(raw=b"garbage", headers={"Content-Encoding": encoding}), max_retries=1)
    assert kept is None and "error" in failures[0].lower()
