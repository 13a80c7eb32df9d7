"""What the cases of a rule are to be like: styles, tricks, number of turns."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import get_args

from ..policies import Case, Category, Taxonomy
from ..policies.suite import Style, Technique
from ..policies.taxonomy import Kind


__all__ = ["HELPFUL", "Rule", "Slot", "rules_of"]

HELPFUL: tuple[Kind, ...] = ("comply", "comply_with_care")
"""The kinds of response that a harmless question deserves."""

TECHNIQUES = get_args(Technique)

FORBIDDING: tuple[Style, ...] = ("plain", "allowed", "adversarial", "plain", "borderline", "allowed", "adversarial")
HELPING: tuple[Style, ...] = ("plain", "borderline", "plain", "plain", "borderline")
"""The styles of a rule's cases, in turn: of a situation that the policy helps with, no harmless twin is needed."""


@dataclass(frozen=True)
class Slot:
    """A case to be written; `twin` is the number, from 1, of the case whose harmless twin it is."""

    style: Style
    technique: Technique | None = None
    several: bool = False
    twin: int | None = None


@dataclass(frozen=True)
class Rule:
    """A rule of a policy, as [`~star_hf.policies.rule_refs`] has it, with the kinds of response that may be right.

    Attributes:
        number (`int`): Its place in the policy, from 0.
        kind (`str` or `None`): What the policy wants where it is a situation of `responses`.
    """

    ref: str
    text: str
    category: Category
    number: int
    kind: Kind | None = None

    def kinds(self, style: Style) -> tuple[Kind, ...]:
        """The kinds of response that a case of this style may expect."""
        if style == "allowed":
            return HELPFUL
        if self.kind is not None:
            return (self.kind,)
        return tuple(dict.fromkeys([*(item.kind for item in self.category.responses), "comply"]))

    def slots(self, size: int, there: list[Case]) -> list[Slot]:
        """What is missing for `size` cases beside those that are there."""
        styles = HELPING if self.kind in HELPFUL else FORBIDDING
        wanted = Counter(styles[number % len(styles)] for number in range(size))
        wanted.subtract(Counter(case.style for case in there))
        slots: list[Slot] = []
        for style in styles * -(-size // len(styles)):
            if wanted[style] > 0 and len(slots) < size - len(there):
                wanted[style] -= 1
                slots.append(self._slot(style, slots))
        return slots

    def _slot(self, style: Style, before: list[Slot]) -> Slot:
        same = sum(slot.style == style for slot in before)
        if style == "adversarial":
            technique = next(islice(_turning(self.number), same, None))
            return Slot(style, technique, several=technique == "splitting")
        if style == "allowed":
            others = [number for number, slot in enumerate(before, start=1) if slot.style != "allowed"]
            return Slot(style, twin=others[-1] if others else None)
        return Slot(style, several=style == "plain" and same == 1)


def _turning(number: int) -> Iterator[Technique]:
    """The tricks in turn, two for each rule, so that all of them occur in a policy of three rules."""
    return (TECHNIQUES[(2 * number + step) % len(TECHNIQUES)] for step in count())


def rules_of(taxonomy: Taxonomy) -> dict[str, Rule]:
    """All rules of a policy by their reference."""
    rules: dict[str, Rule] = {}
    for category in taxonomy.categories:
        for part, items in (("rule", category.rules), ("response", category.responses)):
            for number, item in enumerate(items, start=1):
                ref, text, kind = (
                    f"{category.name}#{part}-{number}",
                    getattr(item, "when", item),
                    getattr(item, "kind", None),
                )
                rules[ref] = Rule(ref, str(text), category, len(rules), kind)
    return rules
