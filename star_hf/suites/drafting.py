"""Draft the suite of a policy: a model writes cases for each rule, another checks them, and ours compares them."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from datasets import Dataset, Features, Value, concatenate_datasets

from ..deduplication.alike import find_alike
from ..errors import PolicyError
from ..llm.annotate import annotate
from ..llm.cost.budget import Budget
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..pipeline.forecast import StageForecast, forecast_stage
from ..policies import Case, Prompts, Suite, Taxonomy, digest
from ..policies.taxonomy import did_you_mean
from ..schema import COLLECTED, REMOVED, as_dataset, removal
from ..utils.text import listed
from .plan import HELPFUL, Rule, rules_of
from .sealing import as_rows, halve
from .writing import CaseChecker, CaseWriter


__all__ = ["Drafted", "Drafting", "draft", "forecast_draft"]

REQUESTED = Features({**COLLECTED, **dict.fromkeys(("rule", "slots", "avoid"), Value("string"))})

WRITTEN_TOKENS, CHECKED_TOKENS = 60, 45
"""Estimated tokens of a reply per case."""


@dataclass(frozen=True)
class Drafting:
    """Options of a draft.

    Attributes:
        per_rule (`int`): Cases per rule. Seven have all styles.
        rules (`Sequence[str]`, *optional*): References of the rules to draft for; all by default.
        rounds (`int`): How often what is still missing is asked for.
        seed (`int`): Decides the halves where nothing else does.
        prompts (`Prompts`, *optional*): Prompt files of your own.
        compare (`dict`): Options of [`~star_hf.deduplication.alike.find_alike`], such as `encoder`.
    """

    per_rule: int = 8
    rules: Sequence[str] | None = None
    rounds: int = 2
    seed: int = 0
    prompts: Prompts | None = None
    compare: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drafted:
    """What came of a draft.

    Attributes:
        suite ([`Suite`]): All cases, those that were there first.
        removed ([`~datasets.Dataset`]): The cases that were left out, as `REMOVED`: `draft_check` found that a case
            does not test its rule (`untested`) or deserves another kind of response (`other_kind`); `deduplicate`
            that it is like another; `halve` that it is like cases of both halves.
        uncovered (`dict[str, str]`): The rules that lack a case in a half, with the reason.
    """

    suite: Suite
    removed: Dataset
    uncovered: dict[str, str]


def draft(
    taxonomy: Taxonomy,
    writer: Endpoint,
    journal: Journal,
    *,
    checker: Endpoint | None = None,
    keep: Suite | None = None,
    deleted: Collection[str] = (),
    options: Drafting | None = None,
    budget: Budget | None = None,
    progress: bool = True,
) -> Drafted:
    """Draft the cases of a suite, and cut it into halves that are unlike each other.

    A rule's cases are one request of the writer and one of the checker. All replies are in the journal first, so that
    a killed draft goes on and pays nothing twice.

    Args:
        checker ([`Endpoint`], *optional*): Who says what a case tests; the writer's model by default.
        keep ([`Suite`], *optional*): Cases that stay as they are, with their halves; only what is missing is drafted.
        deleted (`Collection[str]`): Ids of cases that somebody has removed, and that must not come back.

    Raises:
        PolicyError: If a rule of `keep` or of the options is not in the policy.
        ConfigError, IncompleteRunError: As for [`~star_hf.llm.annotate`].
    """
    options = options or Drafting()
    rules = _chosen(taxonomy, options.rules)
    if keep is not None:
        keep.check(taxonomy)
    cases: list[Case] = [] if keep is None else list(keep.cases)
    there, removed, why = {case.id for case in cases}, list[Dataset](), dict[str, str]()
    for _ in range(options.rounds):
        rows = _requests(rules, cases, options)
        if not len(rows):
            break
        settings: dict[str, Any] = {"max_unusable": 1.0, "budget": budget, "progress": progress}
        written = annotate(rows, CaseWriter(taxonomy, options.prompts), writer, journal, **settings)
        turns = [json.dumps([case["turns"] for case in cases]) for cases in written.rows["cases"]]
        asked = written.rows.add_column("asked", turns)
        checked = annotate(asked, CaseChecker(taxonomy, options.prompts), checker or writer, journal, **settings)
        for row in (*written.removed, *checked.removed):
            why[row["source"]] = f"{row['stage']}: {row['reason']}"
        new, refused = _judged(checked.rows, {case.id for case in cases}, set(deleted))
        sides = [
            _unlike(cases, [case for case in new if (case.expect in HELPFUL) == side], options)
            for side in (True, False)
        ]
        kept = set().union(*(ids for ids, _ in sides))
        cases += [case for case in new if case.id in kept]
        removed += [refused, *(alike for _, alike in sides)]
    halved, neither = halve(cases, there, options.seed, progress=False, **options.compare)
    removed.append(as_dataset([removal(row, "halve", "like_both_halves") for row in as_rows(neither)], REMOVED))
    place = {ref: number for number, ref in enumerate(rules_of(taxonomy))}
    known = {case.id for case in halved}
    halved = [case if case.twin_of in known else replace(case, twin_of=None) for case in halved]
    halved.sort(key=lambda case: place[case.rule])
    texts = {ref: rule.text for ref, rule in rules_of(taxonomy).items()}
    name = taxonomy.name if keep is None else keep.name
    suite = Suite(name, taxonomy.name, taxonomy.language, tuple(halved), texts)
    return Drafted(suite, concatenate_datasets(removed), _uncovered(suite, rules, why))


def forecast_draft(
    taxonomy: Taxonomy,
    writer: Endpoint,
    journal: Journal,
    *,
    checker: Endpoint | None = None,
    keep: Suite | None = None,
    options: Drafting | None = None,
) -> list[StageForecast]:
    """The requests, tokens and cost of a draft's first round, which the others only mend. Sends nothing."""
    options = options or Drafting()
    rows = _requests(_chosen(taxonomy, options.rules), [] if keep is None else list(keep.cases), options)
    sizes = [len(json.loads(slots)) for slots in rows["slots"]]
    turns = [json.dumps([["a question of usual length about the rule, as a user would ask it"]] * n) for n in sizes]
    checks = rows.add_column("asked", turns)
    return [
        forecast_stage(
            CaseWriter(taxonomy, options.prompts), writer, rows, journal, WRITTEN_TOKENS * options.per_rule
        ),
        forecast_stage(
            CaseChecker(taxonomy, options.prompts),
            checker or writer,
            checks,
            journal,
            CHECKED_TOKENS * options.per_rule,
        ),
    ]


def _chosen(taxonomy: Taxonomy, refs: Sequence[str] | None) -> list[Rule]:
    rules = rules_of(taxonomy)
    for ref in refs or ():
        if ref not in rules:
            hint = did_you_mean(ref, rules) or f"Rules: {listed(rules)}."
            raise PolicyError(f"The policy {taxonomy.name!r} has no rule {ref!r}.", hint.strip())
    return [rule for ref, rule in rules.items() if refs is None or ref in refs]


def _requests(rules: Iterable[Rule], cases: Sequence[Case], options: Drafting) -> Dataset:
    """One row for each rule that lacks cases."""
    by_rule = defaultdict[str, list[Case]](list)
    for case in cases:
        by_rule[case.rule].append(case)
    rows = []
    for rule in rules:
        there = by_rule[rule.ref]
        slots = json.dumps([asdict(slot) for slot in rule.slots(options.per_rule, there)])
        avoid = json.dumps([list(case.turns) for case in there], ensure_ascii=False)
        if slots != "[]":
            row = {"id": digest([rule.ref, slots, avoid]), "question": rule.text, "source": rule.ref}
            rows.append({**row, "rule": rule.ref, "slots": slots, "avoid": avoid})
    return as_dataset(rows, REQUESTED)


def _judged(rows: Dataset, known: set[str], deleted: set[str]) -> tuple[list[Case], Dataset]:
    """The cases that test their rule, once each, and the others."""
    good, refused = list[Case](), list[dict[str, Any]]()
    for row in rows:
        slots, made = json.loads(row["slots"]), list[Case]()
        for slot, case, check in zip(slots, row["cases"], row["checks"], strict=True):
            twin = made[slot["twin"] - 1].id if slot["twin"] else None
            made.append(
                Case(
                    row["rule"],
                    slot["style"],
                    tuple(case["turns"]),
                    case["expect"],
                    technique=slot["technique"],
                    origin="drafted",
                    twin_of=twin,
                )
            )
            reason, detail = None, None
            if not check["tests"]:
                reason = "untested"
            elif check["expect"] != case["expect"]:
                reason, detail = "other_kind", f"{case['expect']} by the writer, {check['expect']} by the checker"
            elif made[-1].id in deleted:
                reason = "deleted"
            elif made[-1].id in known:
                reason = "exact_duplicate"
            if reason:
                refused.append(removal(as_rows(made[-1:])[0], "draft_check", reason, detail=detail))
            else:
                known = known | {made[-1].id}
                good.append(made[-1])
    return good, as_dataset(refused, REMOVED)


def _unlike(cases: Sequence[Case], new: Sequence[Case], options: Drafting) -> tuple[set[str], Dataset]:
    """Ids of the new cases that are like no other on their side; a twin is meant to be like its origin."""
    if not new:
        return set(), as_dataset([], REMOVED)
    same = [case for case in cases if (case.expect in HELPFUL) == (new[0].expect in HELPFUL)]
    result = find_alike(as_rows(new), as_rows(same), progress=False, **options.compare).first_wins()
    return set(result.rows["id"]), result.removed


def _uncovered(suite: Suite, rules: Sequence[Rule], why: dict[str, str]) -> dict[str, str]:
    found = {half: {case.rule for case in suite.half(half).cases} for half in ("sealed", "training")}
    lacking = {}
    for rule in rules:
        if missing := [half for half, refs in found.items() if rule.ref not in refs]:
            lacking[rule.ref] = f"no {' and no '.join(missing)} case ({why.get(rule.ref, 'too few were usable')})"
    return lacking
