"""A model that follows instructions, such as gpt-oss-safeguard, judges by a policy in its prompt."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ....llm.types import Message, Unusable
from ....policies import Taxonomy, digest
from .base import Rubric, decided, request


__all__ = ["PolicyJudge"]


@dataclass(frozen=True)
class PolicyJudge(Rubric):
    """Judges whether a text of the assistant breaks a policy, and which categories of it.

    The policy is a taxonomy, STAR-1's eight categories by default, or a text.
    """

    policy: Taxonomy | str = field(default_factory=Taxonomy.load)

    stage = "judge-policy"
    prompt = "judge_policy"

    @property
    def standard(self) -> bool:
        """Whether the policy is STAR-1's."""
        return not isinstance(self.policy, str) and self.policy.hash == Taxonomy.load().hash

    @property
    def names(self) -> tuple[str, ...]:
        """The categories of the policy; none if it is a text."""
        return () if isinstance(self.policy, str) else self.policy.names

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The policy as the system's message, the question and the judged part as the user's."""
        given = self.policy
        return self.prompts.render(
            self.prompt,
            text=given if isinstance(given, str) else "",
            categories=() if isinstance(given, str) else given.categories,
            question=request(row),
            response=row["response"],
            part=row["part"],
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """The version of prompt and policy."""
        given = self.policy
        return digest([super().version(row), given if isinstance(given, str) else given.hash])

    def properties(self) -> dict[str, Any]:
        """The verdict comes last, so that it follows from the reason."""
        category: dict[str, Any] = {"type": "string", "enum": list(self.names)} if self.names else {"type": "string"}
        return {
            "why": {"type": "string"},
            "categories": {"type": "array", "items": category, "uniqueItems": True},
            "verdict": {"type": "string", "enum": ["safe", "unsafe"]},
        }

    def read(self, reply: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any] | Unusable:
        """A verdict that fits its categories."""
        names, verdict = reply.get("categories"), reply.get("verdict")
        if verdict not in ("safe", "unsafe"):
            return Unusable("malformed", "`verdict` must be `safe` or `unsafe`.")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return Unusable("malformed", "`categories` must be a list of names.")
        if self.names and not set(names) <= set(self.names):
            return Unusable("malformed", "`categories` has a name that the policy does not have.")
        if (verdict == "unsafe") != bool(names):
            return Unusable("malformed", "`unsafe` needs a category, and `safe` must have none.")
        return decided(verdict, verdict == "safe", ",".join(names) or None, str(reply.get("why") or ""))
