"""A policy suite: cases that each test one rule of a policy, in a YAML file that people read and edit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, StringConstraints

from ..errors import PolicyError
from ..utils import files
from ..utils.options import UniqueKeys, read_yaml, validated
from ..utils.text import normalise
from .taxonomy import Kind, Taxonomy, did_you_mean, digest


__all__ = ["Case", "Half", "Style", "Suite", "Technique", "rule_refs"]

Style = Literal["plain", "borderline", "adversarial", "allowed"]
"""How a case asks: openly, near the border, with a trick, or for something harmless of the same shape."""

Technique = Literal["role_play", "splitting", "authority", "translation", "encoded"]
"""The trick of an adversarial case."""

Half = Literal["training", "sealed"]
"""What a case is for: its like may become training data, or it only ever tests."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

REMEDY = "docs/policy_suites.md shows the format of a suite."
LARGER = 20
"""How much larger than a recipe a suite may be."""


def rule_refs(taxonomy: Taxonomy) -> dict[str, str]:
    """What a case can test, in the policy's order, with its text: `"Category#rule-1"`, `"Category#response-2"`."""
    return {
        f"{category.name}#{part}-{number}": text
        for category in taxonomy.categories
        for part, texts in (("rule", category.rules), ("response", [item.when for item in category.responses]))
        for number, text in enumerate(texts, start=1)
    }


@dataclass(frozen=True)
class Case:
    """What is asked to test a rule, and which kind of response the policy wants.

    Attributes:
        rule (`str`): One of [`rule_refs`].
        turns (`tuple` of `str`): What the user says. The responses between are those of the model under test.
        technique (`str` or `None`): Of an adversarial case.
        id (`str`): 16 hex digits of rule, turns and kind, so that an edited case is a new one.
        half (`str`): Whether data may be made from the like of it.
        origin (`str`): Drafted by a model, or written by a person. An edited case is written.
        twin_of (`str` or `None`): Of an allowed case: the id of the case with the same shape that is not allowed.
        line (`int` or `None`): Where it is in its file.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    rule: Text
    style: Style
    turns: Annotated[tuple[Text, ...], Field(min_length=1)]
    expect: Kind
    technique: Technique | None = None
    id: str = ""
    half: Half = "sealed"
    origin: Literal["drafted", "written"] = "written"
    twin_of: str | None = None
    line: int | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.technique and self.style != "adversarial":
            raise ValueError(f"`technique` is for adversarial cases, and this one is {self.style}")
        own = digest([self.rule, self.expect, [normalise(turn) for turn in self.turns]])
        if self.id and self.id != own:
            object.__setattr__(self, "origin", "written")  # edited since
        object.__setattr__(self, "id", own)

    @property
    def category(self) -> str:
        """The category of its rule."""
        return self.rule.rpartition("#")[0]


@dataclass(frozen=True)
class Suite:
    """The cases of a policy, in the file's order.

    Attributes:
        policy (`str`): Name of the taxonomy.
        rules (`dict`): Text of each rule when its cases were made, by its reference. May lack rules.
    """

    name: str
    policy: str
    language: str
    cases: tuple[Case, ...]
    rules: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> "Suite":
        """Read and check a suite.

        Raises:
            PolicyError: If the file cannot be read, a field is wrong, or two cases are the same; with file and line.
        """
        content = read_yaml(path, REMEDY, PolicyError, _Loader, larger=LARGER)
        head = validated(_File, content, path, REMEDY, PolicyError)
        cases, seen, renamed = [], {}, {}
        for number, entry in enumerate(head.cases, start=1):
            where = f"{path}: line {entry['line']}" if "line" in entry else f"{path}: case {number}"
            case = validated(Case, entry, where, REMEDY, PolicyError)
            if case.id in seen:
                raise PolicyError(f"{where}: the same case as in line {seen[case.id]} (id {case.id}).", "Remove one.")
            seen[case.id], renamed[entry.get("id")] = entry.get("line"), case.id
            cases.append(case)
        ids = [renamed.get(case.twin_of) if case.twin_of else None for case in cases]  # None where the other is gone
        cases = [replace(case, twin_of=twin) for case, twin in zip(cases, ids, strict=True)]
        return cls(head.name, head.policy, head.language, tuple(cases), head.rules)

    def save(self, path: str | Path) -> None:
        """Write the file; comments of an older one are lost."""
        head = {"name": self.name, "policy": self.policy, "language": self.language, "rules": dict(self.rules)}
        cases = []
        for case in self.cases:
            entry = {name: value for name, value in asdict(case).items() if name != "line" and value is not None}
            cases.append({"id": entry.pop("id"), **entry, "turns": list(case.turns)})
        options: dict[str, Any] = {"allow_unicode": True, "sort_keys": False, "width": 119}
        files.write_text(path, yaml.safe_dump({**head, "cases": cases}, **options))

    @cached_property
    def hash(self) -> str:
        """Hash of what is tested, 16 hex digits; the order of the cases does not count."""
        return digest([sorted((case.id, case.half) for case in self.cases), sorted(self.rules.items())])

    def half(self, half: Half) -> "Suite":
        """The cases of one half."""
        return replace(self, cases=tuple(case for case in self.cases if case.half == half))

    def uncovered(self, taxonomy: Taxonomy) -> list[str]:
        """References of the rules that no case tests, in the policy's order."""
        tested = {case.rule for case in self.cases}
        return [ref for ref in rule_refs(taxonomy) if ref not in tested]

    def check(self, taxonomy: Taxonomy, where: str | Path = "the suite") -> None:
        """Check that the cases test rules of this policy, as they read today.

        Raises:
            PolicyError: If a rule is gone or reads differently; with the line of its first case.
        """
        refs = rule_refs(taxonomy)
        for case in self.cases:
            place = f"{where}: line {case.line}" if case.line else f"{where}: case {case.id}"
            if case.rule not in refs:
                raise PolicyError(
                    f"{place}: the policy {taxonomy.name!r} has no rule {case.rule!r}.",
                    f"{did_you_mean(case.rule, refs)}Change `rule`, or remove the case and draft again.",
                )
            told = self.rules.get(case.rule)
            if told is not None and normalise(told) != normalise(refs[case.rule]):
                raise PolicyError(
                    f"{place}: {case.rule!r} reads differently in the policy than when its cases were made.",
                    "Check its cases and copy the new text to `rules`, or remove its cases and draft again.",
                )


@dataclass(frozen=True)
class _File:
    """A suite's file before its cases are checked one by one."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Text
    policy: Text
    language: Text
    cases: Annotated[list[dict[str, Any]], Field(min_length=1)]
    rules: dict[str, str] = field(default_factory=dict)


class _Loader(UniqueKeys, yaml.BaseLoader):
    """Reads every scalar as text, and keeps the line of each case."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        keys = {key.value for key, _ in node.value}
        line = {} if "cases" in keys or not keys & {"turns", "expect", "style"} else {"line": node.start_mark.line + 1}
        return {**super().construct_mapping(node, deep), **line}
