"""The two models of a draft: one writes the cases of a rule, another says what each case tests."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Features, List, Value

from ..llm.parsing import parse_json
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy
from ..policies.taxonomy import KINDS
from ..utils.text import is_blank
from .plan import Rule, Slot, rules_of


__all__ = ["CaseChecker", "CaseWriter"]

MOST_TURNS = 4
TEXT, LIST = {"type": "string"}, {"type": "array"}


class _OfRule:
    """What both have in common: rows with `rule`, the reference of the rule, and a prompt with its category."""

    reasoning = False
    stage: str

    def __init__(self, taxonomy: Taxonomy, prompts: Prompts | None = None):
        self.rules, self.language = rules_of(taxonomy), taxonomy.language
        self.prompts = prompts or Prompts.load()

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt and of the rule's category; the messages have the rest."""
        return self.prompts.version(self.stage)

    def _render(self, rule: Rule, **variables: Any) -> list[Message]:
        when = rule.kind is not None
        return self.prompts.render(self.stage, categories=(rule.category,), rule=rule.text, when=when, **variables)


class CaseWriter(_OfRule):
    """Writes the cases of one rule. Rows have `slots` and `avoid`, the turns of existing cases, both as JSON."""

    stage = "draft_cases"
    features = Features({"cases": List({"turns": List(Value("string")), "expect": Value("string")})})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The category's policy, the rule, and what is to be written."""
        rule, slots = self.rules[row["rule"]], _slots(row)
        kinds = [kind for kind in KINDS if any(kind in rule.kinds(slot.style) for slot in slots)]
        avoid = json.loads(row["avoid"])
        return self._render(rule, slots=slots, kinds=kinds, avoid=avoid, language=self.language)

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A list of numbered cases."""
        return _numbered({"turns": {**LIST, "items": TEXT}, "expect": {**TEXT, "enum": list(KINDS)}})

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """One case for each slot, with the turns and a kind that the slot may have."""
        slots, rule = _slots(row), self.rules[row["rule"]]
        entries = _entries(completion.text, len(slots), {"turns", "expect"})
        if isinstance(entries, Unusable):
            return entries
        cases = []
        for number, (slot, entry) in enumerate(zip(slots, entries, strict=True), start=1):
            turns, kinds = entry["turns"], rule.kinds(slot.style)
            if not isinstance(turns, list) or not all(isinstance(turn, str) and not is_blank(turn) for turn in turns):
                return Unusable("malformed", f"Case {number}: `turns` must be a list of texts.")
            if not (2 <= len(turns) <= MOST_TURNS if slot.several else len(turns) == 1):
                return Unusable(
                    "malformed", f"Case {number}: {'2 to 4 turns' if slot.several else 'one turn'} needed."
                )
            if entry["expect"] not in kinds:
                return Unusable("malformed", f"Case {number}: `expect` must be one of {', '.join(kinds)}.")
            cases.append({"turns": [turn.strip() for turn in turns], "expect": entry["expect"]})
        return {"cases": cases}


class CaseChecker(_OfRule):
    """Says of each case of a rule whether it tests the rule, and what the policy wants, without the writer's opinion.

    Rows have `asked`, the turns of the cases, as JSON.
    """

    stage = "draft_check"
    features = Features({"checks": List({"tests": Value("bool"), "expect": Value("string")})})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The category's policy, the rule, and the cases."""
        return self._render(self.rules[row["rule"]], cases=json.loads(row["asked"]))

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A list of numbered opinions; the reason comes first."""
        return _numbered({"why": TEXT, "tests": {"type": "boolean"}, "expect": {**TEXT, "enum": list(KINDS)}})

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """One opinion for each case."""
        entries = _entries(completion.text, len(json.loads(row["asked"])), {"why", "tests", "expect"})
        if isinstance(entries, Unusable):
            return entries
        for number, entry in enumerate(entries, start=1):
            if not isinstance(entry["tests"], bool):
                return Unusable("malformed", f"Case {number}: `tests` must be true or false.")
            if entry["expect"] not in KINDS:
                return Unusable("malformed", f"Case {number}: `expect` must be one of {', '.join(KINDS)}.")
        return {"checks": [{"tests": entry["tests"], "expect": entry["expect"]} for entry in entries]}


def _slots(row: Mapping[str, Any]) -> list[Slot]:
    return [Slot(**slot) for slot in json.loads(row["slots"])]


def _numbered(properties: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list `cases` of objects, each with its number first."""
    properties = {"number": {"type": "integer"}, **properties}
    item = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    cases = {"cases": {**LIST, "items": item}}
    return {"type": "object", "properties": cases, "required": ["cases"], "additionalProperties": False}


def _entries(text: str, size: int, names: set[str]) -> Sequence[dict[str, Any]] | Unusable:
    """The objects of a reply in the order of their numbers, 1 to `size`, each with exactly these names."""
    reply = parse_json(text)
    if isinstance(reply, Unusable):
        return reply
    entries = reply.get("cases")
    if set(reply) != {"cases"} or not isinstance(entries, list):
        return Unusable("malformed", "The JSON object must have one key, cases, with a list.")
    if not all(isinstance(entry, dict) and set(entry) == {"number", *names} for entry in entries):
        return Unusable("malformed", f"Each case must have exactly the keys number, {', '.join(sorted(names))}.")
    numbers = [entry["number"] for entry in entries]
    if not all(type(number) is int for number in numbers) or sorted(numbers) != list(range(1, size + 1)):
        return Unusable("malformed", f"The cases must be numbered from 1 to {size}.")
    return sorted(entries, key=lambda entry: entry["number"])
