"""Safety categories of each question (paper, Section 2.2)."""

from collections.abc import Mapping
from typing import Any

from datasets import Dataset, Features, concatenate_datasets

from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_json
from ..llm.step import FAILURE, checked_rows
from ..llm.types import Completion, Message, Unusable
from ..policies import Prompts, Taxonomy, digest
from ..schema import CLASSIFIED, REMOVED, Outcome, as_dataset, each_row, removal
from .policy_step import PolicyStep


__all__ = ["Classifier", "classify"]

OTHER = "other_category"


class Classifier(PolicyStep):
    """Labels a question with the taxonomy's categories. A map names rows that no category fits `"other_category"`.

    Example:

    ```python
    >>> rows = rows.map(Classifier(endpoint, "journal.sqlite"), batched=True).filter(Usable())
    ```
    """

    stage = "classify"
    features = Features({"category": CLASSIFIED["category"]})

    @property
    def labels(self) -> tuple[str, ...]:
        """All valid labels: the categories, then the label for none of them."""
        return (*self.taxonomy.names, self.taxonomy.other)

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The question, and each category's name and definition."""
        return self.prompts.render(
            "classify", question=row["question"], categories=self.taxonomy.categories, other=self.taxonomy.other
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt, names and definitions: an edited rule does not ask for a classification again."""
        seen = [(category.name, category.definition) for category in self.taxonomy.categories]
        return digest([self.prompts.version("classify"), seen, self.taxonomy.other])

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """An object with the list `category`."""
        labels = {
            "type": "array",
            "items": {"type": "string", "enum": list(self.labels)},
            "minItems": 1,
            "maxItems": len(self.labels),
            "uniqueItems": True,
        }
        return {
            "type": "object",
            "properties": {"category": labels},
            "required": ["category"],
            "additionalProperties": False,
        }

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """Known labels in the taxonomy's order, once each; the label for none of them only where it stands alone."""
        answer = parse_json(completion.text)
        if isinstance(answer, Unusable):
            return answer
        names = answer.get("category")
        if set(answer) != {"category"} or not isinstance(names, list) or not names:
            return Unusable("malformed", "The JSON object must have one key, category, with a list of names.")
        if not all(isinstance(name, str) and name in self.labels for name in names):
            return Unusable("malformed", f"Each name must be exactly one of: {'; '.join(self.labels)}.")
        return {"category": [name for name in self.taxonomy.names if name in names] or [self.taxonomy.other]}

    def finished(self, row: Mapping[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
        """The labels, with a failure where no category fits."""
        return {**columns, FAILURE: OTHER if columns["category"] == [self.taxonomy.other] else None}


def classify(
    rows: Dataset,
    endpoint: Endpoint,
    journal: Journal,
    *,
    taxonomy: Taxonomy | None = None,
    prompts: Prompts | None = None,
    **engine: Any,
) -> Outcome:
    """Add each question's safety categories; rows that fit none are removed (paper, Section 2.2).

    Args:
        rows ([`~datasets.Dataset`]): As `schema.COLLECTED`.
        endpoint (`Endpoint`): The classifier.
        journal (`Journal`): Where its answers are kept.
        taxonomy, prompts (*optional*): As for [`Classifier`].
        **engine: Options of [`~star_hf.llm.annotate`].

    Returns:
        `Outcome`: rows as `schema.CLASSIFIED`; rows that no category fits are in `removed` as `"other_category"`.
    """
    classifier = Classifier(taxonomy=taxonomy, prompts=prompts)
    checked_rows(rows, classifier.needs)
    outcome = annotate(rows, classifier, endpoint, journal, **engine)
    labelled = outcome.rows.select_columns(list(CLASSIFIED))
    others = [names == [classifier.taxonomy.other] for names in labelled["category"][:]]
    kept = labelled.select([place for place, other in enumerate(others) if not other])
    left = labelled.select([place for place, other in enumerate(others) if other])
    removed = as_dataset([removal(row, classifier.stage, OTHER) for row in each_row(left)], REMOVED)
    return Outcome(kept, concatenate_datasets([outcome.removed, removed]), outcome.provenance)
