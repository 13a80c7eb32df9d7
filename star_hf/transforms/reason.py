"""Policy-grounded reasoning and answer (paper, Section 2.2)."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.step import checked_rows
from ..llm.types import Completion, Unusable
from ..policies import Prompts, Taxonomy
from ..schema import REASONED, Outcome
from ..utils.text import join_reasoning, split_reasoning
from .policy_step import PolicyStep


__all__ = ["Teacher", "reason"]

PROBLEMS = {
    "no_reasoning": "The reply has no thought before its answer.",
    "ambiguous": "The reply has several thinking tags, so thought and answer cannot be told apart.",
    "empty_thought": "The thought is empty.",
    "empty_answer": "The answer is empty.",
}


class Teacher(PolicyStep):
    """Answers a question under the policies of its categories, with the reasoning that leads to the answer.

    There is no system prompt: DeepSeek-R1's authors advise against one.

    Example:

    ```python
    >>> rows = rows.map(Teacher(endpoint, "journal.sqlite"), batched=True).filter(Usable())
    ```
    """

    stage = "reason"
    reasoning = True
    features = Features({"response": REASONED["response"]})
    needs = {**PolicyStep.needs, "category": "Map `Classifier` over the rows first."}

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The canonical `response` of a completion with its thought in a field of its own or between tags in the text.

        A thought that does not end is `"truncated"`. One that is missing, empty or cannot be separated from the answer
        is `"malformed"`.
        """
        text, thought = completion.text, (completion.reasoning or "").strip()
        if thought:
            inside = split_reasoning(text)
            if inside.answer and inside.thought in ("", thought):  # tags around nothing, or the same thought twice
                text = inside.answer
            text = join_reasoning(thought, text)
        parts = split_reasoning(text)
        if parts.problem == "unclosed":
            return Unusable("truncated", "The thought does not end.")
        if parts.problem is not None:
            return Unusable("malformed", PROBLEMS[parts.problem])
        return {"response": join_reasoning(parts.thought or "", parts.answer or "")}


def reason(
    rows: Dataset,
    endpoint: Endpoint,
    journal: Journal,
    *,
    taxonomy: Taxonomy | None = None,
    prompts: Prompts | None = None,
    **engine: Any,
) -> Outcome:
    """Add a response that reasons about the policies of the row's categories before it answers (paper, Section 2.2).

    The arguments are as for [`~star_hf.transforms.classify.classify`]: the rows are as `schema.CLASSIFIED`, the
    endpoint is a reasoning model, and the taxonomy is the one that the rows were classified with: a category that it
    lacks is a `PolicyError`. The rows of the result are as `schema.REASONED`.
    """
    teacher = Teacher(taxonomy=taxonomy, prompts=prompts)
    checked_rows(rows, teacher.needs)
    teacher.taxonomy.check(rows["category"][:])
    outcome = annotate(rows, teacher, endpoint, journal, **engine)
    return Outcome(outcome.rows.select_columns(list(REASONED)), outcome.removed, outcome.provenance)
