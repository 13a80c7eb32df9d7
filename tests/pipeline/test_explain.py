"""The history and the bill of rows in a run of a few hand-made tables."""

import re

import pytest

from star_hf.cli.tables import run as tables
from star_hf.cli.tables.layout import SafeConsole
from star_hf.pipeline.counts import bills
from star_hf.pipeline.explain import Event, explain
from star_hf.pipeline.run import Run
from star_hf.schema import COLLECTED, PROVENANCE, REASONED, REMOVED, as_dataset, removal


KEPT, GONE, ITEM = (
    {"id": name, "question": f"What is a {name}?", "source": source}
    for name, source in (("lock", "mine"), ("key", "mine"), ("door", "bench"))
)


@pytest.fixture
def run(tmp_path):
    """Two rows, of which one is like a held-out item; the other needed three calls for its response."""
    match = {"matched_id": ITEM["id"], "matched_source": ITEM["source"], "similarity": 0.75}
    gone = removal(GONE, "deduplicate", "tfidf_contamination", **match)
    receipt = {"id": KEPT["id"], "stage": "reason", "model": "m", "attempts": 3, "prompt_tokens": 30}
    receipt |= {"completion_tokens": 6, "cost_usd": 0.5}
    made = Run(tmp_path)
    for stage, rows, removed, others in (
        ("collect", as_dataset([KEPT, GONE], COLLECTED), [], {"held_out": as_dataset([ITEM], COLLECTED)}),
        ("deduplicate", as_dataset([KEPT], COLLECTED), [gone], {}),
        ("reason", as_dataset([KEPT], REASONED), [], {"provenance": as_dataset([receipt], PROVENANCE)}),
    ):
        tables = {"rows": rows, "removed": as_dataset(removed, REMOVED), **others}
        made.stage(stage, {}, {}, None, lambda tables=tables: (tables, {}))
    return made


def test_the_text_of_a_held_out_item_is_shown(run):
    event = explain(run, GONE["id"])[-1]
    assert (event.stage, event.verdict) == ("deduplicate", "removed")
    assert event.facts["matched"] == "door (bench), similarity 0.7500"
    assert event.facts["matched text"] == ITEM["question"]


def test_every_call_is_counted_where_a_reply_was_asked_for_again(run):
    assert explain(run, KEPT["id"])[-1].facts["calls"] == "3 (36 tokens, $0.50000)"
    (bill,) = bills(run)
    assert (bill.stage, bill.calls, bill.prompt_tokens, bill.cost_usd) == ("reason", 3, 30, 0.5)


def test_nothing_in_the_data_steers_the_terminal(capsys, monkeypatch):
    hostile = "a\x1b[31mred\x1b]0;title\x07\x9b2J\r\u202e[bold]b[/bold]\nnext"
    monkeypatch.setattr(tables, "console", SafeConsole(force_terminal=True, width=70))
    tables.show_story(f"[red]{hostile}", [Event(hostile, hostile, {hostile: hostile})])
    printed = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)  # without rich's own colours
    assert set(printed) & set(map(chr, [*range(32), *range(127, 160), 0x202E])) == {"\n"}
    assert "[red]a␛[31mred␛]0;title\ufffd2J\ufffd[bold]b[/bold]" in printed
