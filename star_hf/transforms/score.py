"""Scores of each response on three criteria, 0-10 (paper, Section 2.3)."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features, concatenate_datasets

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_integers, parse_json
from ..llm.step import checked_rows
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy
from ..schema import REMOVED, SCORE_CRITERIA, SCORED, Outcome, as_dataset, removal
from ..utils.text import split_reasoning
from .policy_step import PolicyStep
from .reason import Teacher


__all__ = ["Scorer", "score"]


class Scorer(PolicyStep):
    """Scores a response under the policies of its question's categories, thought and answer separately.

    A response that is not a thought followed by an answer is not judged: a map names it by its problem, see
    [`~star_hf.utils.text.split_reasoning`].

    Example:

    ```python
    >>> rows = rows.map(Scorer(endpoint, "journal.sqlite"), batched=True).filter(FullMarks())
    ```
    """

    stage = "score"
    features = Features({"score": SCORED["score"]})
    needs = {**Teacher.needs, "response": "Map `Teacher` over the rows first."}
    criteria = SCORE_CRITERIA
    low, high = 0, 10

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The policies, the question, the thought and the answer."""
        parts = split_reasoning(row["response"])
        return self.prompts.render(
            self.stage,
            question=row["question"],
            thought=parts.thought,
            answer=parts.answer,
            categories=self.taxonomy.pick(row["category"]),
        )

    def obstacle(self, row: Mapping[str, Any]) -> str | None:
        """The row's failure, or what is wrong with its response."""
        return super().obstacle(row) or split_reasoning(row["response"]).problem

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An object with one integer in range for each criterion.

        The numbers are an enumeration, which every structured decoder enforces; many ignore `minimum` and `maximum`.
        """
        number = {"type": "integer", "enum": list(range(self.low, self.high + 1))}
        return {
            "type": "object",
            "properties": dict.fromkeys(self.criteria, number),
            "required": list(self.criteria),
            "additionalProperties": False,
        }

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """All criteria as integers in range, or why there is no score: a failure is never a number."""
        answer = parse_json(completion.text)
        scores = answer if isinstance(answer, Unusable) else parse_integers(answer, self.criteria, self.low, self.high)
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

    The arguments are as for [`~star_hf.transforms.reason.reason`], with the rows as `schema.REASONED`. At temperature
    0 scores can be reproduced.

    Returns:
        `Outcome`: rows as `schema.SCORED`. A response that is not a thought followed by an answer is not judged: its
        row is in `removed` with the problem's name (see [`~star_hf.utils.text.split_reasoning`]).
    """
    scorer = Scorer(taxonomy=taxonomy, prompts=prompts)
    checked_rows(rows, scorer.needs)
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
