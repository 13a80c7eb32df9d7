"""Conversations as rows: one for each turn of the assistant, with the messages before its question."""

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

from ..errors import TrainingError
from ..utils.text import join_reasoning, split_reasoning


__all__ = ["in_turns"]

THOUGHTS = ("reasoning_content", "thinking", "reasoning")
"""Columns, and fields of a message, with the thought of a response."""
MESSAGE = {"role": Value("string"), "content": Value("string")}
_COLUMNS = {"question": Value("string"), "response": Value("string"), "history": List(MESSAGE)}


def in_turns(rows: Dataset) -> Dataset:
    """The rows with their conversations (`messages`) as `question`, `response` and `history`.

    Each turn of the assistant becomes a row. Thoughts of earlier turns are left out of `history`, as servers do. Rows
    without messages stay as they are. A thought in a column of its own becomes part of the response.

    Raises:
        [`TrainingError`]: If a conversation has no answer after a question, or a message that is not text.
    """
    columns = set(rows.column_names)
    options = {"load_from_cache_file": False, "desc": "Conversations"}
    if "messages" in columns:
        unneeded = {"messages", *_COLUMNS}
        kinds = {name: kind for name, kind in rows.features.items() if name not in unneeded} | _COLUMNS
        rows = rows.map(
            _expand,
            batched=True,
            with_indices=True,
            remove_columns=[name for name in rows.column_names if name in unneeded],
            features=Features(kinds),
            **options,
        )
    thoughts = [name for name in THOUGHTS if name in columns and "response" in rows.column_names]
    if thoughts:
        rows = rows.map(lambda row: {"response": _joined(row["response"], row[thoughts[0]])}, **options)
    return rows


def _expand(batch: Mapping[str, list[Any]], places: Sequence[int]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {name: [] for name in (*batch, *_COLUMNS) if name != "messages"}
    for index, place in enumerate(places):
        row = {name: values[index] for name, values in batch.items() if name != "messages"}
        plain = {name: row.get(name) for name in _COLUMNS}
        messages = batch["messages"][index]
        for turn in [plain] if messages is None else _turns(messages, place):
            for name, value in {**row, **turn}.items():
                made[name].append(value)
    return made


def _turns(messages: Sequence[Mapping[str, Any]], place: int) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    history: list[dict[str, str]] = []
    for number, message in enumerate(messages):
        role, text = message["role"], _text(message, place)
        if role != "assistant":
            history.append({"role": role, "content": text})
            continue
        if number == 0 or messages[number - 1]["role"] != "user":
            raise _unusable(place, "has an answer that follows no question")
        thought = next((message[name] for name in THOUGHTS if message.get(name)), None)
        turns.append({"question": history[-1]["content"], "response": _joined(text, thought), "history": history[:-1]})
        history = [*history, {"role": role, "content": split_reasoning(text).answer or text}]
    if not turns:
        raise _unusable(place, "has no answer")
    return turns


def _text(message: Mapping[str, Any], place: int) -> str:
    """The text of a message, of which the content may be a list of parts."""
    content = message["content"]
    parts = content if isinstance(content, list) else [{"text": content or ""}]
    texts = [part if isinstance(part, str) else part.get("text") for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise _unusable(place, f"has a message of the role {message['role']} that is not text")
    return "".join(texts)


def _joined(response: str | None, thought: str | None) -> str | None:
    """The response with its thought, unless it has one already."""
    if not thought or not response or split_reasoning(response).thought:
        return response
    return join_reasoning(thought, response)


def _unusable(place: int, problem: str) -> TrainingError:
    return TrainingError(f"The conversation of row {place} {problem}.", "Fix it or leave it out.")
