"""The tokens that a JSON schema allows next, by `outlines_core`; the schema is bounded, so that answers end."""

import itertools
import json
from typing import Any

from outlines_core import Guide, Index, Vocabulary
from outlines_core.json_schema import build_regex_from_schema


__all__ = ["SchemaGuides", "bounded", "byte_vocabulary"]

MAX_STRING, MAX_ITEMS, MAX_UNIQUE = 160, 4, 2
"""Maximum characters of a string, items of a list, and items of a list without repeats."""

ASCII_TEXT = r"[ !#-\[\]-~]"
"""A character that JSON neither escapes nor encodes in several bytes."""


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, narrowed to what a regular expression can express and a small model can finish.

    Integers with a range become enumerations, since `outlines_core` ignores `minimum` and `maximum`. Lists without
    repeats become an enumeration of the combinations of at most `MAX_UNIQUE` items in the schema's order. Other
    strings and lists get a maximum length. Every answer that follows the narrowed schema follows the schema.

    Example:

    ```python
    >>> bounded({"type": "integer", "minimum": 1, "maximum": 3})
    {'enum': [1, 2, 3]}
    ```
    """
    if "enum" in schema or "const" in schema:
        return {key: schema[key] for key in ("enum", "const") if key in schema}
    if schema.get("type") == "integer" and "minimum" in schema and "maximum" in schema:
        return {"enum": list(range(schema["minimum"], schema["maximum"] + 1))}
    if schema.get("type") == "string" and "pattern" not in schema:
        shortest = schema.get("minLength", 0)
        longest = max(shortest, min(schema.get("maxLength", MAX_STRING), MAX_STRING))
        return {"type": "string", "pattern": f"^{ASCII_TEXT}{{{shortest},{longest}}}$"}
    if schema.get("type") == "array":
        return _bounded_array(schema)
    narrowed = dict(schema)
    if "properties" in schema:
        narrowed["properties"] = {name: bounded(value) for name, value in schema["properties"].items()}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            narrowed[key] = [bounded(choice) for choice in schema[key]]
    return narrowed


def _bounded_array(schema: dict[str, Any]) -> dict[str, Any]:
    items, shortest = bounded(schema["items"]), schema.get("minItems", 0)
    limit = MAX_UNIQUE if schema.get("uniqueItems") else MAX_ITEMS
    longest = max(shortest, min(schema.get("maxItems", limit), limit))
    if schema.get("uniqueItems") and "enum" in items:
        lengths = range(shortest, longest + 1)
        return {"enum": [list(c) for n in lengths for c in itertools.combinations(items["enum"], n)]}
    return {"type": "array", "items": items, "minItems": shortest, "maxItems": longest}


class SchemaGuides:
    """Compiles each schema once for one tokenizer; its `vocabulary` is that of [`byte_vocabulary`]."""

    def __init__(self, vocabulary: dict[bytes, list[int]], eos_token_id: int):
        self._vocabulary = Vocabulary(eos_token_id, vocabulary)
        self._indices: dict[str, Index] = {}

    def guide(self, schema: dict[str, Any]) -> Guide:
        """A new guide at the start of an answer that follows `schema`, without optional whitespace."""
        text = json.dumps(bounded(schema), ensure_ascii=False)
        if text not in self._indices:
            self._indices[text] = Index(build_regex_from_schema(text, ""), self._vocabulary)
        return Guide(self._indices[text])


def byte_vocabulary(tokenizer: Any) -> dict[bytes, list[int]]:
    """Token ids by their bytes, without special tokens, so that any language can be written."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {character: byte for byte, character in bytes_to_unicode().items()}
    special = set(tokenizer.all_special_ids)
    vocabulary: dict[bytes, list[int]] = {}
    for token, token_id in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if token_id not in special and all(character in byte_of for character in token):
            vocabulary.setdefault(bytes(byte_of[character] for character in token), []).append(token_id)
    return vocabulary
