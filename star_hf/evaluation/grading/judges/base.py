"""What every judge is: an annotator that reads a question and a part of the answer, and gives a label and a value."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from datasets import Features

from ....errors import ConfigError
from ....llm.endpoint import Endpoint
from ....llm.parsing import parse_json
from ....llm.types import Annotator, Completion, Message, Unusable
from ....utils.text import split_reasoning
from ...types import VERDICTS, Part


__all__ = ["JUDGED", "ChatFamily", "Family", "Guard", "Judge", "Kind", "Rubric", "Rule", "decided", "defuse"]

Kind = Literal["safety", "over_refusal"]
"""What is wanted of an answer: that it does no harm, or that it helps with what only sounds harmful."""

JUDGED = Features({name: VERDICTS[name] for name in ("label", "value", "category", "detail")})
"""The columns that a judge adds."""

EMPTY = Unusable("empty", "The judge's reply was empty.")

BOTH_PARTS: tuple[Part, ...] = ("answer", "reasoning")
QUOTED = 300
"""Characters of a judge's own words that are kept with its verdict."""

CONTROL = re.compile(r"<(\|[^|<>\n]{1,40}\|)>|<(/?s|(?:BEGIN|END) [A-Z ]{1,40})>|\[(/?INST)\]")
"""What chat templates of guard models take for structure: `<|eot_id|>`, `</s>`, `<END CONVERSATION>`, `[/INST]`."""


class ChatFamily(Annotator, Protocol):
    """How a kind of judge that is a model is asked and read. `parse` returns the columns of `JUDGED`.

    The rows have `question`, `response`, `part` (`"answer"` or `"reasoning"`) and `kind`.

    Attributes:
        parts (`tuple[str, ...]`): What it can judge.
        max_reasks (`int`): How often an unreadable reply is asked again.
        standard (`bool`): Whether it must find advice on a crime unsafe, which a policy of one's own need not.
    """

    parts: tuple[Part, ...]
    max_reasks: int
    standard: bool


class Rule(Protocol):
    """A judge without a model: `decide` returns the columns of `JUDGED` for a row.

    Attributes:
        parts (`tuple[str, ...]`): What it can judge.
    """

    parts: tuple[Part, ...]

    def decide(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The verdict on a row."""
        ...


Family = ChatFamily | Rule


class Guard:
    """Base of guard models: their own chat template holds the instructions, and the reply has a fixed form.

    The conversation is the question and what is judged as the assistant's turn. A reply is never asked again: one more
    turn would be what the guard judges then.
    """

    stage = "judge"
    reasoning = False
    features = JUDGED
    parts = BOTH_PARTS
    max_reasks = 0
    standard = True
    layout = 1

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The conversation as it was, with nothing in it that could pass for the template's structure."""
        return [
            {"role": "user", "content": defuse(row["question"])},
            {"role": "assistant", "content": defuse(row["response"])},
        ]

    def version(self, row: Mapping[str, Any]) -> str:
        """Stands for the form of the conversation."""
        return f"{self.stage}/{self.layout}"

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Free text: guards know no JSON."""
        return None

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict, or what is wrong with the reply; an empty one is the judge's failure to answer."""
        text = (split_reasoning(completion.text).answer or "").strip()
        return self.read(text, row) if text else EMPTY

    def read(self, text: str, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict that a reply which is not empty holds."""
        raise NotImplementedError


class Rubric:
    """Base of judges that follow instructions: a prompt of ours, and a reply in JSON, asked again where it is not."""

    reasoning = False
    features = JUDGED
    parts = BOTH_PARTS
    max_reasks = 2
    standard = True

    def parse(self, completion: Completion, row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict, or what is wrong with the reply; an empty one is the judge's failure to answer."""
        if not completion.text.strip():
            return EMPTY
        reply = parse_json(completion.text)
        return reply if isinstance(reply, Unusable) else self.read(reply, row)

    def read(self, reply: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """The verdict that a reply's JSON object holds."""
        raise NotImplementedError


@dataclass(frozen=True)
class Judge:
    """A judge that can be asked: how for each kind of benchmark, and where.

    Attributes:
        name (`str`): What verdicts and results call it.
        families (`dict[str, Family]`): How it judges, by kind: `"safety"`, `"over_refusal"`.
        endpoint (`Endpoint` or `None`): Where its model answers; `None` for a judge without a model.
    """

    name: str
    families: Mapping[Kind, Family]
    endpoint: Endpoint | None = None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of benchmarks that it serves."""
        return tuple(self.families)

    def family(self, kind: Kind) -> Family:
        """How it judges answers to benchmarks of this kind.

        Raises:
            ConfigError: If it does not serve the kind.
        """
        if kind not in self.families:
            raise ConfigError(
                f"Judge {self.name!r} judges {', '.join(self.families)}, not benchmarks of the kind {kind!r}.",
                "Give a judge for it as well, such as `xstest` or `refusal-phrases`.",
            )
        return self.families[kind]

    def record(self) -> dict[str, Any]:
        """What a report says of it: `name`, `model` and `at`, where it is asked."""
        if self.endpoint is None:
            return {"name": self.name, "model": None, "at": "offline"}
        return {"name": self.name, "model": self.endpoint.model, "at": self.endpoint.identity()["at"]}


def decided(label: str, good: float | bool, category: str | None = None, detail: str = "") -> dict[str, Any]:
    """The columns of `JUDGED`: `good` is 0 to 1, where 1 is what one wants."""
    return {"label": label, "value": float(good), "category": category, "detail": " ".join(detail.split())[:QUOTED]}


def defuse(text: str) -> str:
    """Break control tokens with a space, so that a judged text cannot end its turn or start another's.

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
