"""Read a policy as a reviewer would: what is missing, contradicts, repeats itself, or can be read in two ways."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from datasets import Dataset, Features, List, Value

from ..deduplication.alike import find_alike
from ..llm.annotate import annotate
from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.parsing import parse_json
from ..llm.types import Completion, Message, Unusable
from ..policies import Category, Prompts, Suite, Taxonomy, digest
from ..schema import COLLECTED, as_dataset
from ..transforms.classify import Classifier
from ..utils.text import normalise
from .plan import HELPFUL, rules_of


__all__ = ["CHECKS", "PolicyReviewer", "Remark", "categories_apart", "lines_of", "review", "review_by_model"]

CHECKS = {
    "no_help": "error",
    "no_limit": "warning",
    "repeated": "error",
    "contradiction": "error",
    "overlap": "warning",
    "vague": "warning",
    "no_allowed_side": "warning",
    "unclear": "warning",
    "not_apart": "error",
}
"""What can be found, and how bad it is."""

FOUND_BY_MODEL = ("contradiction", "overlap", "vague", "no_allowed_side", "unclear")

VAGUE = {
    "de": "angemessen|gegebenenfalls|nach Möglichkeit|in der Regel|normalerweise|usw|und so weiter|heikel|ungeeignet"
    "|problematisch|sinnvoll",
    "en": "appropriate|inappropriate|as needed|if necessary|where possible|normally|usually|etc|and so on|problematic"
    "|bad things|reasonable|sensitive topics|suitable",
    "es": "adecuad[oa]s?|apropiad[oa]s?|si es necesario|normalmente|etcétera|etc|problemátic[oa]s?|razonables?",
    "fr": "appropriée?s?|si nécessaire|normalement|généralement|etc|problématiques?|raisonnables?",
}
"""Words that leave a decision to the reader, by language."""

WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""A word, or a character of Chinese and Japanese, which have no spaces."""

LEAST_APART = 0.7
"""Share of a category's questions that the classifier must put into it."""

LEAST_QUESTIONS = 5
"""Questions of a category that are needed to say anything about it."""


@dataclass(frozen=True)
class Remark:
    """A finding about a policy.

    Attributes:
        check (`str`): One of [`CHECKS`].
        where (`str`): A category, or the reference of a rule.
        line (`int` or `None`): Where that is in the file.
        text (`str`): What was found, and what to do.
    """

    check: str
    where: str
    text: str
    line: int | None = None

    @property
    def level(self) -> Literal["error", "warning"]:
        """How bad it is."""
        return CHECKS[self.check]  # type: ignore[return-value]


def lines_of(path: str | Path) -> dict[str, int]:
    """The line of each category and each rule of a policy file, by name and reference."""
    root = yaml.compose(Path(path).read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
    lines: dict[str, int] = {}
    for category in _field(root, "categories").value:
        name = _field(category, "name").value.strip()
        lines[name] = category.start_mark.line + 1
        for part, field in (("rule", "rules"), ("response", "responses")):
            for number, item in enumerate(_field(category, field).value, start=1):
                lines[f"{name}#{part}-{number}"] = item.start_mark.line + 1
    return lines


def _field(node: Any, name: str) -> Any:
    return next(value for key, value in node.value if key.value == name)


def review(taxonomy: Taxonomy, lines: Mapping[str, int] | None = None) -> list[Remark]:
    """What can be found without a model: kinds of response, repetitions, vague words. In the policy's order."""
    found = [*_kinds(taxonomy), *_repetitions(taxonomy), *_vague(taxonomy)]
    return _placed(found, taxonomy, lines)


def _placed(found: Iterable[Remark], taxonomy: Taxonomy, lines: Mapping[str, int] | None) -> list[Remark]:
    order = {name: place for place, name in enumerate([*taxonomy.names, *rules_of(taxonomy)])}
    placed = [Remark(item.check, item.where, item.text, (lines or {}).get(item.where)) for item in found]
    return sorted(placed, key=lambda item: (item.line or 0, order.get(item.where, 0), item.check))


def _kinds(taxonomy: Taxonomy) -> Iterator[Remark]:
    for category in taxonomy.categories:
        kinds = {response.kind for response in category.responses}
        if not kinds & set(HELPFUL):
            text = (
                "No response helps: a model learns to refuse whatever sounds like this category. Say what is allowed."
            )
            yield Remark("no_help", category.name, text)
        if kinds <= set(HELPFUL):
            text = (
                "No response declines, redirects or leaves something out. Where all is allowed, no policy is needed."
            )
            yield Remark("no_limit", category.name, text)


def _repetitions(taxonomy: Taxonomy) -> Iterator[Remark]:
    rules, definitions = rules_of(taxonomy), {category.name: category for category in taxonomy.categories}
    for ref, other in _alike({ref: rule.text for ref, rule in rules.items()}):
        kinds = {rules[ref].kind, rules[other].kind}
        if None not in kinds and len(kinds) == 2 and rules[ref].category is rules[other].category:
            wanted = f"{rules[ref].kind} and {rules[other].kind}"
            text = (
                f"The same situation as {other}, with another kind of response: {wanted}. Say what tells them apart."
            )
            yield Remark("contradiction", ref, text)
        elif rules[ref].category is rules[other].category and (rules[ref].kind is None) == (rules[other].kind is None):
            yield Remark("repeated", ref, f"Reads like {other}. Remove one, or say what tells them apart.")
        elif rules[ref].kind is None and rules[other].kind is None:
            yield Remark("overlap", ref, f"Reads like {other}, of another category. Keep it where questions belong.")
    for name, other in _alike({name: category.definition for name, category in definitions.items()}):
        yield Remark(
            "repeated", name, f"Its definition reads like that of {other!r}: no question can tell them apart."
        )


def _alike(texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Pairs of names whose texts are alike by their words, the later one first.

    Rules are short and alike in form: where each says a word that the other does not ("under 18", "over 18"), that
    tells them apart.
    """
    words = {name: set(WORD.findall(normalise(text))) for name, text in texts.items()}
    rows = as_dataset(({"id": name, "question": text, "source": "policy"} for name, text in texts.items()), COLLECTED)
    removed = find_alike(rows, rows.select([]), embedding_threshold=None, progress=False).first_wins().removed
    for name, other in zip(removed["id"][:], removed["matched_id"][:], strict=True):
        if words[name] <= words[other] or words[other] <= words[name]:
            yield name, other


def _vague(taxonomy: Taxonomy) -> Iterator[Remark]:
    words = VAGUE.get(taxonomy.language.lower().partition("-")[0])
    if words is None:
        return
    for category in taxonomy.categories:
        for part, texts in (("rule", category.rules), ("response", [item.do for item in category.responses])):
            for number, text in enumerate(texts, start=1):
                found = sorted({match.lower() for match in re.findall(rf"(?<![\w-])(?:{words})(?![\w-])", text, re.I)})
                if found:
                    said = f"Leaves the decision to the reader: {', '.join(found)}. Say when, or give an example."
                    yield Remark("vague", f"{category.name}#{part}-{number}", said)


class PolicyReviewer:
    """Reads one category of a policy, beside all others, and names what is wrong with it."""

    stage = "policy_review"
    reasoning = False
    features = Features(
        {"remarks": List({"check": Value("string"), "where": Value("string"), "why": Value("string")})}
    )

    def __init__(self, taxonomy: Taxonomy, prompts: Prompts | None = None):
        self.taxonomy, self.prompts = taxonomy, prompts or Prompts.load()

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The whole policy, and the items of the category by their names."""
        items = self._items(self._category(row))
        return self.prompts.render(
            self.stage, categories=self.taxonomy.categories, reviewed=row["question"], items=items
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt and the policy."""
        return digest([self.prompts.version(self.stage), self.taxonomy.hash])

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A list of remarks; the reason comes first."""
        text, items = {"type": "string"}, list(self._items(self._category(row)))
        kinds = {"why": text, "check": {**text, "enum": list(FOUND_BY_MODEL)}, "item": {**text, "enum": items}}
        remark = {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}
        remarks = {"remarks": {"type": "array", "items": remark}}
        return {"type": "object", "properties": remarks, "required": ["remarks"], "additionalProperties": False}

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The remarks, each about an item of this category."""
        reply, items = parse_json(completion.text), self._items(self._category(row))
        if isinstance(reply, Unusable):
            return reply
        remarks = reply.get("remarks")
        if set(reply) != {"remarks"} or not isinstance(remarks, list):
            return Unusable("malformed", "The JSON object must have one key, remarks, with a list.")
        for remark in remarks:
            if not isinstance(remark, dict) or set(remark) != {"why", "check", "item"}:
                return Unusable("malformed", "Each remark must have exactly the keys why, check, item.")
            if (
                remark["check"] not in FOUND_BY_MODEL
                or remark["item"] not in items
                or not isinstance(remark["why"], str)
            ):
                return Unusable("malformed", "`check` and `item` must be among those listed, and `why` a text.")
        name = row["question"]
        return {"remarks": [{"check": r["check"], "where": f"{name}#{r['item']}", "why": r["why"]} for r in remarks]}

    def _category(self, row: Mapping[str, Any]) -> Category:
        return self.taxonomy.pick([row["question"]])[0]

    def _items(self, category: Category) -> dict[str, str]:
        prefix = f"{category.name}#"
        return {
            ref.removeprefix(prefix): rule.text
            for ref, rule in rules_of(self.taxonomy).items()
            if ref.startswith(prefix)
        }


def review_by_model(
    taxonomy: Taxonomy,
    endpoint: Endpoint,
    journal: Journal,
    lines: Mapping[str, int] | None = None,
    *,
    prompts: Prompts | None = None,
    progress: bool = True,
) -> list[Remark]:
    """What a model finds, one request per category. Raises as [`~star_hf.llm.annotate`] does."""
    names = ({"id": digest(name), "question": name, "source": "policy"} for name in taxonomy.names)
    reviewer = PolicyReviewer(taxonomy, prompts)
    outcome = annotate(as_dataset(names, COLLECTED), reviewer, endpoint, journal, max_unusable=0, progress=progress)
    found = [Remark(item["check"], item["where"], item["why"]) for row in outcome.rows for item in row["remarks"]]
    return _placed(found, taxonomy, lines)


def categories_apart(
    taxonomy: Taxonomy,
    suite: Suite,
    endpoint: Endpoint,
    journal: Journal,
    lines: Mapping[str, int] | None = None,
    *,
    prompts: Prompts | None = None,
    progress: bool = True,
) -> list[Remark]:
    """Categories whose questions the classifier puts elsewhere: by the questions of a suite, one request each."""
    suite.check(taxonomy)
    cases = [case for case in suite.cases if case.style in ("plain", "borderline")]
    rows = Dataset.from_list(
        [{"id": case.id, "question": "\n".join(case.turns), "source": case.category} for case in cases],
        features=COLLECTED,
    )
    classifier = Classifier(taxonomy=taxonomy, prompts=prompts)
    outcome = annotate(rows, classifier, endpoint, journal, max_unusable=0.1, progress=progress)
    chosen = defaultdict[str, list[Sequence[str]]](list)
    for row in outcome.rows:
        chosen[row["source"]].append(row["category"])
    found = []
    for name, labels in chosen.items():
        right = sum(name in those for those in labels)
        if len(labels) >= LEAST_QUESTIONS and right < LEAST_APART * len(labels):
            others = Counter(label for those in labels if name not in those for label in those)
            most = ", ".join(f"{label} ({count})" for label, count in others.most_common(2))
            text = (
                f"Of {len(labels)} questions about its rules the classifier puts {right} into it; others into {most}."
            )
            found.append(Remark("not_apart", name, f"{text} Say in the definitions what belongs where."))
    return _placed(found, taxonomy, lines)
