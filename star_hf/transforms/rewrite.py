"""Benign twins: harmless questions of the same shape, answered and scored (paper, Section 4.3 and Appendix E)."""

import json
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_json
from ..llm.step import FAILURE, checked_rows
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy
from ..schema import BENIGN, BENIGN_CRITERIA, PROVENANCE, REMOVED, Outcome, as_dataset, removal
from ..utils.text import is_blank, normalise, row_id
from .filters import FullMarks
from .policy_step import PolicyStep
from .reason import Teacher
from .score import Scorer


__all__ = ["BenignRewriter", "BenignScorer", "BenignTeacher", "benign_twins"]

UNCHANGED = "unchanged"

Rows = list[dict[str, Any]]


class BenignRewriter(PolicyStep):
    """Rewrites a question into a harmless one of the same shape.

    A map gives the row its twin's `question` and `id`, and `origin_id`; a twin that equals its origin is
    `"unchanged"`.
    """

    stage = "benign_rewrite"
    features = Features({"question": BENIGN["question"]})
    needs = Teacher.needs

    @property
    def added(self) -> Features:
        """The twin's `question` and `id`, `origin_id`, and `failure`."""
        return Features({**super().added, "id": BENIGN["id"], "origin_id": BENIGN["origin_id"]})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The question and the task."""
        return self.prompts.render(self.stage, question=row["question"])

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt."""
        return self.prompts.version(self.stage)

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An object with the text `question`."""
        return {
            "type": "object",
            "properties": {"question": {"type": "string"}},
            "required": ["question"],
            "additionalProperties": False,
        }

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The twin's question."""
        answer = parse_json(completion.text)
        if isinstance(answer, Unusable):
            return answer
        question = answer.get("question")
        if set(answer) != {"question"} or not isinstance(question, str) or is_blank(question):
            return Unusable("malformed", "The JSON object must have one key, question, with the new question as text.")
        return {"question": question.strip()}

    def finished(self, row: Mapping[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
        """The twin, linked to its origin."""
        twin = columns["question"]
        failure = UNCHANGED if normalise(twin) == normalise(row["question"]) else None
        return {"question": twin, "id": row_id(twin), "origin_id": row["id"], FAILURE: failure}


class BenignTeacher(Teacher):
    """Answers a twin as any assistant would: the question alone, without policies."""

    stage = "benign_reason"
    needs = PolicyStep.needs

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The twin's question as the user's own message."""
        return self.prompts.render(self.stage, question=row["question"])

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt."""
        return self.prompts.version(self.stage)


class BenignScorer(Scorer):
    """Scores a twin's response from 1 to 5 on `schema.BENIGN_CRITERIA`, under its origin's policies."""

    stage = "benign_score"
    features = Features({"score": BENIGN["score"]})
    criteria = BENIGN_CRITERIA
    low, high = 1, 5


def benign_twins(
    rows: Dataset,
    *,
    rewriter: Endpoint,
    teacher: Endpoint,
    scorer: Endpoint,
    journal: Journal,
    taxonomy: Taxonomy | None = None,
    prompts: Prompts | None = None,
    minimum: int = BenignScorer.high,
    **engine: Any,
) -> Outcome:
    """Make a harmless twin of each question, let the teacher answer it, and keep those with high marks.

    Args:
        rows ([`~datasets.Dataset`]): As `schema.REASONED` or `schema.SCORED`; the responses are not read.
        rewriter, teacher, scorer (`Endpoint`): The models that write the twins, answer them and score the answers.
        minimum (`int`, defaults to 5): Lowest score on each criterion that keeps a twin; the paper keeps full marks.
        journal, taxonomy, prompts, **engine: As for [`~star_hf.transforms.reason.reason`].

    Returns:
        `Outcome`: rows as `schema.BENIGN`. Each origin without a twin is in `removed`, under its own id and question:
        `"unchanged"` (the rewrite is the question), `"duplicate"` (it is another row's twin), `"low_marks"`
        (with the scores), or the name of an unusable answer. A receipt has the id of the twin where there is one in
        rows, and of the origin otherwise.
    """
    checked_rows(rows, BenignRewriter.needs)
    policies = {"taxonomy": taxonomy or Taxonomy.load(), "prompts": prompts or Prompts.load()}
    policies["taxonomy"].check(rows["category"][:])
    origins = rows.select_columns(["id", "question", "category", "source"])
    rewritten = annotate(origins, BenignRewriter(**policies), rewriter, journal, **engine)
    questions = dict(zip(origins["id"][:], origins["question"][:], strict=True))
    twins, left = _new_questions(rewritten.rows, questions)
    answered = annotate(twins, BenignTeacher(**policies), teacher, journal, **engine)
    scored = annotate(answered.rows, BenignScorer(**policies), scorer, journal, **engine)
    kept, below = _high_marks(scored.rows, minimum)
    outcomes = (rewritten, answered, scored)
    removed = [record for outcome in outcomes for record in outcome.removed] + left + below
    receipts = [receipt for outcome in outcomes for receipt in outcome.provenance]
    # Twins get their own ids instead of their origins', and removals their origins' questions.
    ids = {row["id"]: row_id(row["question"]) for row in kept}
    return Outcome(
        as_dataset([{**row, "id": ids[row["id"]], "origin_id": row["id"]} for row in kept], BENIGN),
        as_dataset([{**record, "question": questions[record["id"]]} for record in removed], REMOVED),
        as_dataset([{**receipt, "id": ids.get(receipt["id"], receipt["id"])} for receipt in receipts], PROVENANCE),
    )


def _new_questions(rewritten: Dataset, questions: Mapping[str, str]) -> tuple[Dataset, Rows]:
    """The twins that differ from their origin and from each other, and the removals of all others."""
    places: list[int] = []
    left: Rows = []
    first: dict[str, Any] = {}
    for place, row in enumerate(rewritten):
        twin = row_id(row["question"])
        if normalise(row["question"]) == normalise(questions[row["id"]]):
            left.append(removal(row, BenignRewriter.stage, UNCHANGED, detail=row["question"]))
        elif twin in first:
            match = {"matched_id": first[twin]["id"], "matched_source": first[twin]["source"], "similarity": 1.0}
            left.append(removal(row, BenignRewriter.stage, "duplicate", **match, detail=row["question"]))
        else:
            first[twin] = row
            places.append(place)
    return rewritten.select(places), left


def _high_marks(scored: Dataset, minimum: int) -> tuple[Rows, Rows]:
    """The rows with at least the minimum on every criterion, and removals of the rest."""
    full_marks = FullMarks(minimum, BENIGN_CRITERIA)
    kept, left = [], []
    for row in scored:
        if full_marks(row):
            kept.append(row)
        else:
            detail = json.dumps(row["score"])
            left.append(removal(row, BenignScorer.stage, "low_marks", detail=detail))
    return kept, left
