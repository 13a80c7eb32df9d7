"""Cut a suite into a half that data may be made from and a sealed half, with nothing alike across the cut."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, get_args

from datasets import Dataset

from ..deduplication.alike import find_alike
from ..policies import Case, digest
from ..policies.suite import Half
from ..schema import COLLECTED, as_dataset


__all__ = ["as_rows", "halve", "related"]

HALVES: tuple[Half, ...] = ("sealed", "training")
assert set(HALVES) == set(get_args(Half))


def as_rows(cases: Sequence[Case]) -> Dataset:
    """Cases as rows to compare: the turns are the question, and the rule is the source."""
    rows = ({"id": case.id, "question": "\n".join(case.turns), "source": case.rule} for case in cases)
    return as_dataset(rows, COLLECTED)


def related(cases: Sequence[Case], **options: Any) -> list[list[Case]]:
    """The cases in groups that belong together: alike by our own measures, or a case and its harmless twin.

    `options` are those of [`~star_hf.deduplication.alike.find_alike`].
    """
    first = {case.id: case.id for case in cases}

    def root(name: str) -> str:
        while first[name] != name:
            first[name] = name = first[first[name]]
        return name

    links = [(case.id, case.twin_of) for case in cases if case.twin_of in first]
    if cases:
        rows = as_rows(cases)
        groups = find_alike(rows, rows.select([]), **options).one_per_group().groups
        links += [(one, other) for one, others in groups.items() for other in others]
    for one, other in links:
        first[root(one)] = root(other)
    groups = defaultdict[str, list[Case]](list)
    for case in cases:
        groups[root(case.id)].append(case)
    return list(groups.values())


def halve(
    cases: Sequence[Case], fixed: Collection[str] = (), seed: int = 0, **options: Any
) -> tuple[list[Case], list[Case]]:
    """Give each case its half, so that related cases are in one, and each rule and style is in both where possible.

    Args:
        fixed (`Collection[str]`): Ids of cases that keep their half, which people may have chosen.
        options: As for [`related`].

    Returns:
        `tuple`: The cases with their halves, in the order given; and cases that are related to fixed ones of both
        halves, and so belong in neither.
    """
    order = {case.id: place for place, case in enumerate(cases)}
    done, left_out, counts = list[Case](), list[Case](), Counter[Any]()

    def put(group: Sequence[Case], half: Half) -> None:
        for case in group:
            done.append(replace(case, half=half))
            counts.update([(case.rule, half), (case.rule, case.style, half), half])

    def rank(group: list[Case]) -> Any:
        return -len(group), digest([seed, min(case.id for case in group)])

    groups = sorted(related(cases, **options), key=rank)
    bound = [group for group in groups if any(case.id in fixed for case in group)]
    for group in bound:
        held = {case.half for case in group if case.id in fixed}
        for case in group:
            if case.id in fixed:
                put([case], case.half)
            elif len(held) == 1:
                put([case], *held)
            else:
                left_out.append(case)
    for group in (group for group in groups if group not in bound):
        put(group, min(HALVES, key=lambda half: _fill(group, half, counts)))
    return sorted(done, key=lambda case: order[case.id]), sorted(left_out, key=lambda case: order[case.id])


def _fill(group: Sequence[Case], half: Half, counts: Counter[Any]) -> tuple[int, ...]:
    """How full a half is already of what a group has: its rules, then its styles, then anything."""
    rules = sum(counts[case.rule, half] for case in group)
    return rules, sum(counts[case.rule, case.style, half] for case in group), counts[half]
