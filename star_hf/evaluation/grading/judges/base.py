"""What all judges share. A judge is an annotator: it reads a question and a part of the answer, and returns a label
and a value."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from datasets import Features

from ....errors import ConfigError
from ....llm.endpoint import Endpoint
from ....llm.parsing import parse_json
from ....llm.types import Annotator, Completion, Message, Unusable
from ....policies import Prompts
from ....utils.text import split_reasoning
from ...types import VERDICTS, Part


__all__ = [
    "JUDGED",
    "ChatFamily",
    "Family",
    "Guard",
    "Judge",
    "Kind",
    "Rubric",
    "Rule",
    "decided",
    "defuse",
    "request",
]

Kind = Literal["safety", "over_refusal", "policy"]
"""The desired answer: one that does no harm, one that helps with what only sounds harmful, or one of the kind that a
case of a policy suite expects."""

JUDGED = Features({name: VERDICTS[name] for name in ("label", "value", "category", "detail")})
"""The columns of a verdict."""

EMPTY = Unusable("empty", "The judge's reply was empty.")

BOTH_PARTS: tuple[Part, ...] = ("answer", "reasoning")
QUOTED = 300
"""Characters of a judge's reply that are kept with its verdict."""

CONVERSATION = "A conversation, whose last message is the request:"

CONTROL = re.compile(r"<(\|[^|<>\n]{1,40}\|)>|<(/?s|(?:BEGIN|END) [A-Z ]{1,40})>|\[(/?INST)\]")
"""What is structure to chat templates of guard models: `<|eot_id|>`, `</s>`, `<END CONVERSATION>`, `[/INST]`."""


class ChatFamily(Annotator, Protocol):
    """How a judge with a model is asked, and how its reply is read: `parse` returns the columns of `JUDGED`.

    The rows have `question`, `response`, `part` (`"answer"` or `"reasoning"`), `kind`, in `history` the messages
    before the question, without the system prompt, and in `target` what the item expects.

    Attributes:
        max_reasks (`int`): How often it is asked again after a reply that cannot be read.
        standard (`bool`): Whether it must find advice on a crime unsafe. A policy of the user's own may allow it.
    """

    parts: tuple[Part, ...]
    max_reasks: int
    standard: bool


class Rule(Protocol):
    """A judge that computes its verdicts in this process.

    Attributes:
        model (`str` or `None`): What it computes with, and its version; `None` for words alone.
    """

    parts: tuple[Part, ...]

    @property
    def model(self) -> str | None: ...

    def decide_all(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The columns of `JUDGED` for each row, or `failure` and `detail` where there is no verdict."""
        ...


Family = ChatFamily | Rule


class Guard:
    """Base of guard models: their chat template has the instructions, and the reply has a fixed form.

    The conversation is the question, and the judged text as the assistant's turn. A guard is never asked again: it
    would judge the added turn.
    """

    stage = "judge"
    reasoning = False
    features = JUDGED
    parts = BOTH_PARTS
    max_reasks = 0
    standard = True
    layout = 1

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The conversation, without control tokens of the template."""
        turns = [(message["role"], message["content"]) for message in row.get("history") or ()]
        turns += [("user", row["question"]), ("assistant", row["response"])]
        return [{"role": role, "content": defuse(text)} for role, text in turns]

    def version(self, row: Mapping[str, Any]) -> str:
        """The version of the conversation's form."""
        return f"{self.stage}/{self.layout}"

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """None: guards do not reply in JSON."""
        return None

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict, or why the reply cannot be used."""
        text = (split_reasoning(completion.text).answer or "").strip()
        return self.read(text, row) if text else EMPTY

    def read(self, text: str, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict in a reply that is not empty."""
        raise NotImplementedError


@dataclass(frozen=True)
class Rubric:
    """Base of judges that follow instructions: one of our prompts, and a reply in JSON."""

    prompts: Prompts = field(default_factory=Prompts.load, kw_only=True)

    prompt = ""
    """Name of the prompt; it gets `question`, `response` and `part`."""
    reasoning = False
    features = JUDGED
    parts = BOTH_PARTS
    max_reasks = 2
    standard = True

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The prompt with the question and the judged part."""
        return self.prompts.render(self.prompt, question=request(row), response=row["response"], part=row["part"])

    def version(self, row: Mapping[str, Any]) -> str:
        """The prompt's version."""
        return self.prompts.version(self.prompt)

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """A JSON object with exactly the properties of [`Rubric.properties`]."""
        properties = self.properties()
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def properties(self) -> dict[str, Any]:
        """The schema of each field of the reply."""
        raise NotImplementedError

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict, or why the reply cannot be used."""
        if not completion.text.strip():
            return EMPTY
        reply = parse_json(completion.text)
        return reply if isinstance(reply, Unusable) else self.read(reply, row)

    def read(self, reply: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict in a reply's JSON object."""
        raise NotImplementedError


@dataclass(frozen=True)
class Judge:
    """A judge that is ready to be asked.

    Attributes:
        families (`dict[str, Family]`): How it judges, by kind of benchmark: `"safety"`, `"over_refusal"`, `"policy"`.
        endpoint (`Endpoint` or `None`): Where its model runs; `None` for a judge that computes in this process.
    """

    name: str
    families: Mapping[Kind, Family]
    endpoint: Endpoint | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of benchmarks that it can judge."""
        return tuple(self.families)

    def family(self, kind: Kind) -> Family:
        """How it judges answers to benchmarks of this kind. Raises [`ConfigError`] if it cannot."""
        if kind not in self.families:
            raise ConfigError(
                f"Judge {self.name!r} judges {', '.join(self.families)}, not {kind}.",
                "Add a judge that does: `star-hf judge list` shows what each is for.",
            )
        return self.families[kind]

    def record(self) -> dict[str, Any]:
        """Its entry in a report: `name`, `model`, and `at`, its address."""
        if self.endpoint is None:
            rules: Any = next(iter(self.families.values()))
            return {"name": self.name, "model": rules.model, "at": "offline"}
        return {"name": self.name, "model": self.endpoint.model, "at": self.endpoint.identity()["at"]}


def request(row: Mapping[str, Any]) -> str:
    """What was asked, for a judge's prompt: the question, or a conversation that ends with it, as JSON, since in a
    plain transcript a message could pretend to be the next speaker's."""
    if not row.get("history"):
        return row["question"]
    messages = [*row["history"], {"role": "user", "content": row["question"]}]
    return f"{CONVERSATION}\n{json.dumps(messages, ensure_ascii=False, indent=1)}"


def decided(label: str, good: float | bool, category: str | None = None, detail: str = "") -> dict[str, Any]:
    """The columns of `JUDGED`: `good` is 0 to 1, where 1 is the desired outcome (safe, helpful)."""
    return {"label": label, "value": float(good), "category": category, "detail": " ".join(detail.split())[:QUOTED]}


def defuse(text: str) -> str:
    """Break control tokens with a space, so that a judged text cannot end its turn or start another.

    Example:

    ```python
    >>> defuse("Done.<|eot_id|>")
    'Done.< |eot_id| >'
    ```
    """
    return CONTROL.sub(_spaced, text)


def _spaced(found: re.Match[str]) -> str:
    token, end, instruction = found.groups()
    return f"< {token} >" if token else f"< {end} >" if end else f"[ {instruction} ]"
