"""Benign twins: harmless questions of the same shape, answered and scored (paper, Section 4.3 and Appendix E)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, Features

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_json
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy, digest
from ..schema import BENIGN, BENIGN_CRITERIA, PROVENANCE, REMOVED, Outcome, as_dataset, removal
from ..utils.text import normalise, row_id, split_reasoning
from .reason import parse_response
from .score import integers_schema, parse_scores


__all__ = ["BenignRewriter", "BenignScorer", "BenignTeacher", "benign_twins"]

LOW, HIGH = 1, 5

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class BenignRewriter:
    """Rewrites a question into a harmless one of the same shape.

    Args:
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
    """

    prompts: Prompts = field(default_factory=Prompts.load)

    stage = "benign_rewrite"
    reasoning = False
    features = Features({"question": BENIGN["question"]})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The question and the task."""
        return self.prompts.render("benign_rewrite", question=row["question"])

    def version(self, row: Mapping[str, Any]) -> str:
        """Stands for the prompt."""
        return self.prompts.version("benign_rewrite")

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
        if set(answer) != {"question"} or not isinstance(question, str) or not question.strip():
            return Unusable("malformed", "The JSON object must have one key, question, with the new question as text.")
        return {"question": question.strip()}


@dataclass(frozen=True)
class BenignTeacher:
    """Answers a twin as any assistant would: the question alone, without policies.

    Args:
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
    """

    prompts: Prompts = field(default_factory=Prompts.load)

    stage = "benign_reason"
    reasoning = True
    features = Features({"response": BENIGN["response"]})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The twin's question as the user's own message."""
        return self.prompts.render("benign_reason", question=row["question"])

    def version(self, row: Mapping[str, Any]) -> str:
        """Stands for the prompt."""
        return self.prompts.version("benign_reason")

    def schema(self, row: Mapping[str, Any]) -> None:
        """Free text."""
        return None

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The response, see [`~star_hf.transforms.reason.parse_response`]."""
        return parse_response(completion)


@dataclass(frozen=True)
class BenignScorer:
    """Grades a twin's response under the policies of its origin's categories.

    Args:
        taxonomy (`Taxonomy`, *optional*): The policies; STAR-1's eight by default.
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
    """

    taxonomy: Taxonomy = field(default_factory=Taxonomy.load)
    prompts: Prompts = field(default_factory=Prompts.load)

    stage = "benign_score"
    reasoning = False
    features = Features({"score": BENIGN["score"]})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The policies, the twin's question, the thought and the answer."""
        parts = split_reasoning(row["response"])
        return self.prompts.render(
            "benign_score",
            question=row["question"],
            thought=parts.thought,
            answer=parts.answer,
            categories=self.taxonomy.pick(row["category"]),
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """Stands for the prompt and the policies of the row's categories."""
        return digest([self.prompts.version("benign_score"), self.taxonomy.version_of(row["category"])])

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An object with one whole number from 1 to 5 for each criterion."""
        return integers_schema(BENIGN_CRITERIA, LOW, HIGH)

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """All criteria as whole numbers in range."""
        return parse_scores(completion, BENIGN_CRITERIA, LOW, HIGH)


def benign_twins(
    rows: Dataset,
    *,
    rewriter: Endpoint,
    teacher: Endpoint,
    scorer: Endpoint,
    journal: Journal,
    taxonomy: Taxonomy | None = None,
    prompts: Prompts | None = None,
    minimum: int = HIGH,
    **engine: Any,
) -> Outcome:
    """Make a harmless twin of each question, let the teacher answer it, and keep those with high marks.

    Args:
        rows ([`~datasets.Dataset`]): As `schema.REASONED` or `schema.SCORED`; the responses are not read.
        rewriter, teacher, scorer (`Endpoint`): Who writes the twins, answers them and grades the answers.
        journal (`Journal`): Where all answers are kept.
        taxonomy (`Taxonomy`, *optional*): The one that the rows were classified with; STAR-1's eight by default.
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
        minimum (`int`, defaults to 5): Lowest score on each criterion that keeps a twin; the paper keeps full marks.
        **engine: Options of [`~star_hf.llm.annotate`].

    Returns:
        `Outcome`: rows as `schema.BENIGN`. Each origin without a twin is in `removed`, under its own id and question:
        `"unchanged"` (the rewrite is the question), `"duplicate"` (it is another row's twin), `"low_marks"`
        (with the scores), or the name of an unusable answer. A receipt has the id of the twin where there is one in
        rows, and of the origin otherwise.

    Raises:
        PolicyError: If a row has a category that the taxonomy lacks.
    """
    taxonomy, prompts = taxonomy or Taxonomy.load(), prompts or Prompts.load()
    taxonomy.check(rows["category"])
    origins = rows.select_columns(["id", "question", "category", "source"])
    rewritten = annotate(origins, BenignRewriter(prompts), rewriter, journal, **engine)
    questions = dict(zip(origins["id"][:], origins["question"][:], strict=True))
    twins, left = _new_questions(rewritten.rows, questions)
    answered = annotate(twins, BenignTeacher(prompts), teacher, journal, **engine)
    scored = annotate(answered.rows, BenignScorer(taxonomy, prompts), scorer, journal, **engine)
    kept, below = _high_marks(scored.rows, minimum)
    outcomes = (rewritten, answered, scored)
    removed = [record for outcome in outcomes for record in outcome.removed]
    receipts = [receipt for outcome in outcomes for receipt in outcome.provenance]
    return _named(kept, [*removed, *left, *below], receipts, questions)


def _new_questions(rewritten: Dataset, questions: Mapping[str, str]) -> tuple[Dataset, Rows]:
    """The twins that differ from their origin and from each other, and removals of the rest."""
    places: list[int] = []
    left: Rows = []
    first: dict[str, Any] = {}
    for place, row in enumerate(rewritten):
        twin = row_id(row["question"])
        if normalise(row["question"]) == normalise(questions[row["id"]]):
            left.append(removal(row, BenignRewriter.stage, "unchanged", detail=row["question"]))
        elif twin in first:
            match = {"matched_id": first[twin]["id"], "matched_source": first[twin]["source"], "similarity": 1.0}
            left.append(removal(row, BenignRewriter.stage, "duplicate", **match, detail=row["question"]))
        else:
            first[twin] = row
            places.append(place)
    return rewritten.select(places), left


def _high_marks(scored: Dataset, minimum: int) -> tuple[Rows, Rows]:
    """The rows with at least the minimum on every criterion, and removals of the rest."""
    kept, left = [], []
    for row in scored:
        if all(row["score"][criterion] >= minimum for criterion in BENIGN_CRITERIA):
            kept.append(row)
        else:
            detail = json.dumps(row["score"])
            left.append(removal(row, BenignScorer.stage, "low_marks", detail=detail))
    return kept, left


def _named(kept: Rows, removed: Rows, receipts: Rows, questions: Mapping[str, str]) -> Outcome:
    """Until here all rows go by their origin's id; now a twin gets its own, and what left its origin's question."""
    ids = {row["id"]: row_id(row["question"]) for row in kept}
    return Outcome(
        as_dataset([{**row, "id": ids[row["id"]], "origin_id": row["id"]} for row in kept], BENIGN),
        as_dataset([{**record, "question": questions[record["id"]]} for record in removed], REMOVED),
        as_dataset([{**receipt, "id": ids.get(receipt["id"], receipt["id"])} for receipt in receipts], PROVENANCE),
    )
