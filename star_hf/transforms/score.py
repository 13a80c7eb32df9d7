"""Scores of each response on three criteria, 0-10 (paper, Section 2.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset, Features, concatenate_datasets

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_integers, parse_json
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy, digest
from ..schema import REMOVED, SCORE_CRITERIA, SCORED, Outcome, as_dataset, removal
from ..utils.text import split_reasoning


__all__ = ["Scorer", "integers_schema", "parse_scores", "score"]

LOW, HIGH = 0, 10


@dataclass(frozen=True)
class Scorer:
    """Grades a response under the policies of its question's categories, thought and answer apart.

    Args:
        taxonomy (`Taxonomy`, *optional*): The policies; STAR-1's eight by default.
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
    """

    taxonomy: Taxonomy = field(default_factory=Taxonomy.load)
    prompts: Prompts = field(default_factory=Prompts.load)

    stage = "score"
    reasoning = False
    features = Features({"score": SCORED["score"]})

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The policies, the question, the thought and the answer."""
        parts = split_reasoning(row["response"])
        return self.prompts.render(
            "score",
            question=row["question"],
            thought=parts.thought,
            answer=parts.answer,
            categories=self.taxonomy.pick(row["category"]),
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """Stands for the prompt and the policies of the row's categories."""
        return digest([self.prompts.version("score"), self.taxonomy.version_of(row["category"])])

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An object with one whole number from 0 to 10 for each criterion."""
        return integers_schema(SCORE_CRITERIA, LOW, HIGH)

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """All criteria as whole numbers in range."""
        return parse_scores(completion, SCORE_CRITERIA, LOW, HIGH)


def integers_schema(criteria: Sequence[str], low: int, high: int) -> dict[str, Any]:
    """JSON schema of an object with one whole number for each criterion.

    The numbers are an enumeration, which every structured decoder keeps to; many pass over `minimum` and `maximum`.
    """
    number = {"type": "integer", "enum": list(range(low, high + 1))}
    return {
        "type": "object",
        "properties": dict.fromkeys(criteria, number),
        "required": list(criteria),
        "additionalProperties": False,
    }


def parse_scores(completion: Completion, criteria: Sequence[str], low: int, high: int) -> dict[str, Any] | Unusable:
    """The column `score` of a reply, or why there is none: a failure is never a number."""
    answer = parse_json(completion.text)
    scores = answer if isinstance(answer, Unusable) else parse_integers(answer, criteria, low, high)
    return scores if isinstance(scores, Unusable) else {"score": scores}


def score(
    rows: Dataset,
    endpoint: Endpoint,
    journal: Journal,
    *,
    taxonomy: Taxonomy | None = None,
    prompts: Prompts | None = None,
    **engine: Any,
) -> Outcome:
    """Add scores from 0 to 10 on the three criteria of `schema.SCORE_CRITERIA` (paper, Section 2.3).

    Args:
        rows ([`~datasets.Dataset`]): As `schema.REASONED`.
        endpoint (`Endpoint`): The judge; at temperature 0, so that a score can be had again.
        journal (`Journal`): Where its answers are kept.
        taxonomy (`Taxonomy`, *optional*): The one that the rows were classified with; STAR-1's eight by default.
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
        **engine: Options of [`~star_hf.llm.annotate`].

    Returns:
        `Outcome`: rows as `schema.SCORED`. A response that is not a thought followed by an answer is not judged: its
        row is in `removed` with the problem's name (see [`~star_hf.utils.text.split_reasoning`]).

    Raises:
        PolicyError: If a row has a category that the taxonomy lacks.
    """
    scorer = Scorer(taxonomy or Taxonomy.load(), prompts or Prompts.load())
    scorer.taxonomy.check(rows["category"][:])
    problems = [split_reasoning(response).problem for response in rows["response"][:]]
    whole = rows.select([n for n, problem in enumerate(problems) if problem is None])
    removed = [removal(rows[n], scorer.stage, problem) for n, problem in enumerate(problems) if problem is not None]
    outcome = annotate(whole, scorer, endpoint, journal, **engine)
    return Outcome(
        outcome.rows.select_columns(list(SCORED)),
        concatenate_datasets([as_dataset(removed, REMOVED), outcome.removed]),
        outcome.provenance,
    )
