"""Strict reading of a model's JSON: one object or a named failure. Model text is never evaluated.

The words of a failure are sent to the model when it is asked again, and so are part of that request's key: another
wording would have second answers of existing journals paid again.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ..utils.text import split_reasoning
from .types import Unusable


__all__ = ["parse_integers", "parse_json"]

START = re.compile(r'\{(?=\s*["}])')
"""The start of a JSON object; a brace in prose, such as `{x}`, is not one."""


def parse_json(text: str) -> dict[str, Any] | Unusable:
    """The one JSON object of a reply, alone or with a code fence or some prose around it.

    A thought before the reply is skipped; a reply that starts with JSON has none. Two objects, invalid JSON, duplicate
    keys, `NaN` and objects nested too deeply for Python are malformed: a reply is never guessed at. Takes linear time.
    """
    if not text.lstrip().startswith("{"):
        text = split_reasoning(text).answer or ""
    text = text.strip().removeprefix("\ufeff")
    if text.startswith("["):
        return Unusable("malformed", "A JSON object was expected, not a list.")
    start = START.search(text)
    if start is None:
        return Unusable("malformed", "The reply holds no JSON object.")
    try:
        value, end = _DECODER.raw_decode(text, start.start())
    except RecursionError:
        return Unusable("malformed", "The JSON is nested too deeply.")
    except ValueError as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        return Unusable("malformed", f"The reply is not valid JSON: {what}.")
    if START.search(text, end):
        return Unusable("malformed", "The reply holds more than one JSON object.")
    return value


def parse_integers(
    values: Mapping[str, Any], criteria: Iterable[str], low: int, high: int
) -> dict[str, int] | Unusable:
    """Integers from `low` to `high`, exactly one for each criterion.

    `7`, `7.0` and `"7"` are valid; `true`, `null`, `"seven"`, `7.5` and numbers out of range are malformed.
    """
    criteria = tuple(criteria)
    if set(values) != set(criteria):
        return Unusable("malformed", f"The JSON object must have exactly the keys {', '.join(criteria)}.")
    numbers = {}
    for criterion in criteria:
        number = _whole(values[criterion])
        if number is None or not low <= number <= high:
            return Unusable("malformed", f"{criterion} must be a whole number from {low} to {high}.")
        numbers[criterion] = number
    return numbers


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        return None
    return int(value)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_no_duplicates)
