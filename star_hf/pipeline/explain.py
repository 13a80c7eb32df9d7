"""The history of a row: its source, why it was removed and what it matched, or its category, scores and cost."""

from dataclasses import dataclass, field
from typing import Any

from ..errors import StarError
from .run import STAGES, Run


__all__ = ["Event", "explain"]

NEW_COLUMNS = {
    "collect": ("question", "source"),
    "classify": ("category",),
    "reason": ("response",),
    "score": ("score",),
    "rewrite": ("question", "origin_id", "score"),
}
"""The columns that a stage adds to a row."""


@dataclass(frozen=True)
class Event:
    """What happened to a row at one stage: it was `"kept"` or `"removed"`, with details in the order to show them."""

    stage: str
    verdict: str
    facts: dict[str, str] = field(default_factory=dict)


def explain(run: Run, row_id: str) -> list[Event]:
    """List what happened to a row or a benign twin, in the order of the stages.

    Copies of a question in several sources share one id; each removed copy has its own event.
    """
    events: list[Event] = []
    for stage in STAGES:
        if stage not in run.records:
            continue
        kept, receipt = run.find(stage, "rows", row_id), run.find(stage, "provenance", row_id)
        for record in run.find(stage, "removed", row_id):
            events.append(Event(stage, "removed", {**_removal(run, record), **_cost(receipt)}))
        for record in kept:
            new = {name: _show(record[name]) for name in NEW_COLUMNS.get(stage, ())}
            if stage == run.begins_after:
                known = ("question", "source", "category")
                new = (
                    {"given": run.records[stage].notes["from"]["data"]}
                    | {name: _show(record[name]) for name in known if record.get(name) is not None}
                    | new
                )
            events.append(Event(stage, "kept", {**new, **_cost(receipt)}))
    if not events:
        raise StarError(
            f"{run.folder} has no row {row_id!r}.",
            "Ids are in the column `id` of the run's tables; star_hf.utils.text.row_id(question) computes one.",
        )
    return events


def _removal(run: Run, record: dict[str, Any]) -> dict[str, str]:
    facts = {"question": record["question"], "source": record["source"], "reason": record["reason"]}
    if record["matched_id"]:
        facts["matched"] = (
            f"{record['matched_id']} ({record['matched_source']}), similarity {record['similarity']:.4f}"
        )
        matches = [
            match for table in ("rows", "held_out") for match in run.find("collect", table, record["matched_id"])
        ]
        facts["matched text"] = matches[0]["question"] if matches else "(not in this run)"
    if record["detail"]:
        facts["detail"] = record["detail"]
    return facts


def _cost(receipts: list[dict[str, Any]]) -> dict[str, str]:
    if not receipts:
        return {}
    tokens = sum(receipt["prompt_tokens"] + receipt["completion_tokens"] for receipt in receipts)
    cost = sum(receipt["cost_usd"] or 0.0 for receipt in receipts)
    calls = sum(receipt["attempts"] for receipt in receipts)
    price = f", ${cost:.5f}" if cost else ""
    return {"model": receipts[-1]["model"], "calls": f"{calls} ({tokens} tokens{price})"}


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {mark}" for name, mark in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
