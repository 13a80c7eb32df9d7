"""A round's rows: questions for the rules that need them, answered under the policy, scored, mixed with the rest."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from ..audit.rows import load_rows
from ..errors import ConfigError
from ..llm import Budget, Journal
from ..policies import Case, Prompts, Suite
from ..schema import CLASSIFIED, REMOVED, as_dataset, each_row, removal
from ..suites.drafting import Drafting, draft
from ..suites.plan import HELPFUL
from ..suites.sealing import as_rows
from ..transforms.filters import FullMarks
from ..transforms.reason import reason
from ..transforms.score import score
from ..utils.files import read_table, sha256_of, write_table, write_text
from ..utils.text import row_id
from .allocation import Quota
from .ledger import Entry, Ledger
from .measure import Subject
from .sealed import near_copies, sealed_rows


__all__ = ["RoundData", "wanted"]

STEP, MOST_DRAFTS = 8, 6
"""New cases per rule and request, and requests per rule in a round."""


def wanted(quota: Quota, spare: float) -> tuple[int, int]:
    """How many questions a quota needs, those that should not be helped with first: some answers get no full marks."""
    return math.ceil((quota.rows - quota.harmless) * spare), math.ceil(quota.harmless * spare)


@dataclass(frozen=True)
class RoundData:
    """Makes the rows of one round in its folder.

    Attributes:
        quotas (`dict[str, Quota]`): The rows of each rule.
        number (`int`): The round, from 1.
    """

    subject: Subject
    ledger: Ledger
    number: int
    quotas: Mapping[str, Quota]
    budget: Budget | None = None
    progress: bool = True

    @property
    def folder(self) -> Path:
        """The round's folder."""
        return self.ledger.round_folder(self.number)

    def cases(self, journal: Journal) -> Entry:
        """The questions: first those of the training half, then new drafts, none of them like a sealed case.

        They go to `cases.yaml`, and those that are left out, with the reason, to `removed.parquet`. The drafter never
        sees a sealed case.
        """
        config, before = self.subject.config, self._before()
        used = {case.id for suite in before for case in suite.cases}
        compare = config.similarity.options(self.ledger.folder, journal, self.budget)
        encoder = compare["encoder"]
        made_of = {
            "quotas": {ref: vars(quota) for ref, quota in self.quotas.items()},
            "suite": self.subject.suite.hash,
            "policies": self.subject.taxonomy.hash,
            "used": sorted(used),
            "endpoints": [e.identity() for e in (config.endpoints.drafter, config.endpoints.checker)],
            "prompts": [self._prompts.version(name) for name in ("draft_cases", "draft_check")],
            "similarity": [compare["tfidf_threshold"], compare["embedding_threshold"], encoder and encoder.identity],
            "spare": config.rows.spare,
            "seed": config.seed,
        }

        def make() -> dict[str, Any]:
            kept = self._usable(self.subject.suite.half("training").cases, used, compare)
            chosen, removed, drafted = list(kept[0]), [kept[1]], 0
            known = [*self.subject.suite.half("training").cases, *(case for suite in before for case in suite.cases)]
            for _ in range(MOST_DRAFTS):
                short = [ref for ref in self.quotas if self._short(ref, chosen)]
                if not short:
                    break
                new = self._draft(short, list({case.id: case for case in known}.values()), journal, compare)
                known += new
                good, bad = self._usable(new, used, compare)
                chosen, removed, drafted = [*chosen, *good], [*removed, bad], drafted + len(new)
                if not new:
                    break
            final = self._picked(chosen)
            suite = replace(self.subject.suite, cases=tuple(replace(case, half="training") for case in final))
            self.folder.mkdir(exist_ok=True)
            suite.save(self.folder / "cases.yaml")
            table = concatenate_datasets([as_dataset([], REMOVED), *removed])
            write_table(table, self.folder / "removed.parquet")
            return {"cases": len(final), "drafted": drafted, "removed": dict(Counter(table["reason"][:]))}

        outputs = [self.folder / name for name in ("cases.yaml", "removed.parquet")]
        return self.ledger.stage(f"round-{self.number} cases", made_of, outputs, make)

    def rows(self, journal: Journal) -> Entry:
        """The rows: `rows.parquet` has those with full marks, up to each rule's quota, `rows_removed.parquet` the
        others with the reason, and `provenance.parquet` the receipts."""
        config, folder = self.subject.config, self.folder
        teacher, scorer = config.endpoints.teacher, config.endpoints.scorer
        made_of = {
            "cases": sha256_of(folder / "cases.yaml"),
            "quotas": {ref: vars(quota) for ref, quota in self.quotas.items()},
            "endpoints": [teacher.identity(), scorer.identity()],
            "prompts": [self._prompts.version(name) for name in ("reason", "score")],
            "policies": self.subject.taxonomy.hash,
            "minimum": config.rows.minimum,
        }

        def make() -> dict[str, Any]:
            cases = Suite.load(folder / "cases.yaml").cases if self._has_cases else ()
            asked = [
                {
                    "id": row_id(case.turns[0]),
                    "question": case.turns[0],
                    "source": case.rule,
                    "category": [case.category],
                }
                for case in cases
            ]
            helpful = {row["id"]: case.expect in HELPFUL for row, case in zip(asked, cases, strict=True)}
            engine: dict[str, Any] = {
                "taxonomy": self.subject.taxonomy,
                "prompts": self._prompts,
                "max_unusable": config.max_unusable,
                "budget": self.budget,
                "progress": self.progress,
            }
            answered = reason(as_dataset(asked, CLASSIFIED), teacher, journal, **engine)
            scored = score(answered.rows, scorer, journal, **engine)
            kept, left = self._full_marks(scored.rows, helpful)
            removed = concatenate_datasets([answered.removed, scored.removed, as_dataset(left, REMOVED)])
            receipts = concatenate_datasets([answered.provenance, scored.provenance])
            for name, table in (("rows", kept), ("rows_removed", removed), ("provenance", receipts)):
                write_table(table, folder / f"{name}.parquet")
            made = Counter(kept["source"][:])
            harmless = Counter(row["source"] for row in each_row(kept) if helpful[row["id"]])
            return {
                "rows": {ref: [made[ref], harmless[ref]] for ref in self.quotas},
                "removed": dict(sorted(Counter(removed["reason"][:]).items())),
            }

        outputs = [folder / f"{name}.parquet" for name in ("rows", "rows_removed", "provenance")]
        return self.ledger.stage(f"round-{self.number} rows", made_of, outputs, make)

    def mixture(self, journal: Journal) -> Entry:
        """All rows so far in `train.jsonl`: those that were there, then those of each round, each question once. Rows
        that are like a sealed case are left out, into `train_removed.parquet`."""
        config, folder = self.subject.config, self.folder
        tables = [self.ledger.round_folder(n) / "rows.parquet" for n in range(1, self.number + 1)]
        given = list(_given(config.data)) if config.data is not None else []
        compare = config.similarity.options(self.ledger.folder, journal, self.budget)
        made_of = {
            "given": given,
            "rows": [sha256_of(path) for path in tables],
            "sealed": self.subject.sealed.hash,
            "system_prompt": self.subject.system_prompt,
            "similarity": [compare["tfidf_threshold"], compare["embedding_threshold"]],
        }

        def make() -> dict[str, Any]:
            own = [row for path in tables for row in each_row(read_table(path))]
            everything = list({row["id"]: row for row in [*own, *given]}.values())
            rows = as_dataset(everything, CLASSIFIED)
            left = near_copies(rows, sealed_rows(self.subject.suite), **compare)
            gone = set(left["id"][:])
            lines = [self._line(row) for row in everything if row["id"] not in gone]
            write_text(folder / "train.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            write_table(left, folder / "train_removed.parquet")
            return {"rows": len(lines), "given": len(given), "removed": len(left)}

        outputs = [folder / "train.jsonl", folder / "train_removed.parquet"]
        return self.ledger.stage(f"round-{self.number} mixture", made_of, outputs, make)

    def _line(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row as trainers read it; under a system prompt as a conversation."""
        about = {"id": row["id"], "source": row["source"]}
        if self.subject.system_prompt is None:
            return {**about, "question": row["question"], "response": row["response"]}
        roles = {"system": self.subject.system_prompt, "user": row["question"], "assistant": row["response"]}
        return {**about, "messages": [{"role": role, "content": text} for role, text in roles.items()]}

    @property
    def _prompts(self) -> Prompts:
        return Prompts.load(self.subject.config.prompts)

    @property
    def _has_cases(self) -> bool:
        return bool(self.ledger.stages[f"round-{self.number} cases"].notes["cases"])

    def _before(self) -> list[Suite]:
        """The questions of earlier rounds, which are not asked again."""
        stages = self.ledger.stages
        return [
            Suite.load(self.ledger.round_folder(number) / "cases.yaml")
            for number in range(1, self.number)
            if stages[f"round-{number} cases"].notes["cases"]
        ]

    def _draft(self, rules: Sequence[str], known: Sequence[Case], journal: Journal, compare: Any) -> list[Case]:
        """New cases for some rules, unlike the known ones. The drafter is shown those of the training half alone."""
        config, counts = self.subject.config, Counter(case.rule for case in known)
        keep = replace(self.subject.suite, cases=tuple(replace(case, half="training") for case in known))
        new = list[Case]()
        for size in sorted({counts[ref] for ref in rules}):
            options = Drafting(
                per_rule=size + STEP,
                rules=[ref for ref in rules if counts[ref] == size],
                seed=config.seed,
                prompts=self._prompts,
                compare=compare,
            )
            done = draft(
                self.subject.taxonomy,
                config.endpoints.drafter,
                journal,
                checker=config.endpoints.checker,
                keep=keep,
                options=options,
                budget=self.budget,
                progress=self.progress,
            )
            there = {case.id for case in known}
            new += [case for case in done.suite.cases if case.id not in there]
        return new

    def _usable(self, cases: Sequence[Case], used: set[str], compare: Any) -> tuple[list[Case], Dataset]:
        """The cases that can become rows, and the others: of several turns, or like a sealed case."""
        removed = [
            removal(row, "cases", "several_turns")
            for row, case in zip(as_rows(cases), cases, strict=True)
            if len(case.turns) > 1
        ]
        single = [case for case in cases if len(case.turns) == 1 and case.id not in used]
        if not single:
            return [], as_dataset(removed, REMOVED)
        left = near_copies(as_rows(single), sealed_rows(self.subject.suite), **compare)
        gone = set(left["id"][:])
        kept = [case for case in single if case.id not in gone]
        return kept, concatenate_datasets([as_dataset(removed, REMOVED), left])

    def _sides(self, ref: str, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
        mine = [case for case in cases if case.rule == ref]
        return [c for c in mine if c.expect not in HELPFUL], [c for c in mine if c.expect in HELPFUL]

    def _short(self, ref: str, cases: Sequence[Case]) -> bool:
        sides, needed = self._sides(ref, cases), wanted(self.quotas[ref], self.subject.config.rows.spare)
        return any(len(side) < count for side, count in zip(sides, needed, strict=True))

    def _picked(self, cases: Sequence[Case]) -> list[Case]:
        """As many cases as each rule needs, each question once."""
        picked = dict[str, Case]()
        for ref, quota in self.quotas.items():
            for side, count in zip(
                self._sides(ref, cases), wanted(quota, self.subject.config.rows.spare), strict=True
            ):
                fresh = [case for case in side if row_id(case.turns[0]) not in picked]
                picked |= {row_id(case.turns[0]): case for case in fresh[:count]}
        return list(picked.values())

    def _full_marks(self, rows: Dataset, helpful: Mapping[str, bool]) -> tuple[Dataset, list[dict[str, Any]]]:
        """The rows with full marks, up to each quota, and the removals of the rest."""
        enough, counts = FullMarks(self.subject.config.rows.minimum), Counter[tuple[str, bool]]()
        kept, left = [], []
        for place, row in enumerate(each_row(rows)):
            quota, side = self.quotas[row["source"]], helpful[row["id"]]
            most = quota.harmless if side else quota.rows - quota.harmless
            if not enough(row):
                left.append(removal(row, "rows", "below_full_marks", detail=json.dumps(row["score"], sort_keys=True)))
            elif counts[row["source"], side] >= most:
                left.append(removal(row, "rows", "spare"))
            else:
                counts[row["source"], side] += 1
                kept.append(place)
        return rows.select(kept), left


def _given(data: str) -> Iterator[dict[str, Any]]:
    """The rows that were there, in the columns of ours.

    Raises:
        [`ConfigError`]: If they are conversations, or a row has no question or no response.
    """
    rows = load_rows(data)
    if "messages" in rows.columns:
        raise ConfigError(
            f"{data} holds conversations, and `data` takes a question and a response per row.",
            "Bring them into columns `question` and `response`.",
        )
    if rows.refused:
        raise ConfigError(f"{data} has rows that cannot be read: {rows.refused[0]}.", "Fix or remove them.")
    for number, (question, response) in enumerate(zip(rows.questions, rows.responses, strict=True), start=1):
        if not question.strip() or not (response or "").strip():
            raise ConfigError(f"{data}: row {number} has no question or no response.", "Remove it.")
        source = rows.sources[number - 1] or Path(data).name
        yield {"id": row_id(question), "question": question, "source": source, "response": response, "category": []}
