import json
import re

import pytest


pytest.importorskip("outlines_core", reason="outlines_core is not installed")
from outlines_core.json_schema import build_regex_from_schema

from star_hf.llm.embedded.structured import MAX_ITEMS, MAX_STRING, bounded


def matches(schema: dict, answer: object) -> bool:
    pattern = build_regex_from_schema(json.dumps(bounded(schema), ensure_ascii=False), "")
    text = json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    return re.fullmatch(pattern, text) is not None


def test_integer_ranges_are_exact():
    schema = {"type": "integer", "minimum": 0, "maximum": 10}
    assert [n for n in range(-2, 101) if matches(schema, n)] == list(range(11))


def test_unique_lists_have_no_repeats_and_one_order():
    schema = {"type": "array", "items": {"enum": ["甲", "b", "c"]}, "minItems": 1, "maxItems": 3, "uniqueItems": True}
    assert matches(schema, ["甲"]) and matches(schema, ["甲", "c"])
    assert not any(matches(schema, answer) for answer in ([], ["b", "b"], ["c", "b"], ["d"]))


def test_strings_and_lists_come_to_an_end():
    assert matches({"type": "string"}, "x" * MAX_STRING) and not matches({"type": "string"}, "x" * (MAX_STRING + 1))
    assert not matches({"type": "string", "maxLength": 3}, "xxxx")
    items = {"type": "array", "items": {"type": "boolean"}}
    assert matches(items, [True] * MAX_ITEMS) and not matches(items, [True] * (MAX_ITEMS + 1))


def test_nested_schemas_are_bounded_too():
    schema = {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 1, "maximum": 2}]}},
        "required": ["a"],
    }
    assert matches(schema, {"a": None}) and matches(schema, {"a": 2}) and not matches(schema, {"a": 3})
