"""What the steps that ask a model have in common: policies, and a prompt named like the step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..llm.endpoint import Endpoint
from ..llm.journal import Journal
from ..llm.step import Step
from ..llm.types import Message
from ..policies import Prompts, Taxonomy, digest


__all__ = ["PolicyStep"]


class PolicyStep(Step):
    """Base of the paper's steps that ask a model.

    Args:
        taxonomy (`Taxonomy`, *optional*): The policies; STAR-1's eight by default.
        prompts (`Prompts`, *optional*): Prompt files; the library's by default.
        endpoint, journal, **engine: As for [`Step`].
    """

    reasoning = False

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        journal: Journal | str | Path | None = None,
        *,
        taxonomy: Taxonomy | None = None,
        prompts: Prompts | None = None,
        **engine: Any,
    ):
        super().__init__(endpoint, journal, **engine)
        self.taxonomy = taxonomy or Taxonomy.load()
        self.prompts = prompts or Prompts.load()

    def settings(self) -> Any:
        """The versions of the prompt and of all policies."""
        return [self.prompts.version(self.stage), self.taxonomy.hash]

    def messages(self, row: Mapping[str, Any]) -> list[Message]:
        """The question, and the policies of the row's categories."""
        return self.prompts.render(
            self.stage, question=row["question"], categories=self.taxonomy.pick(row["category"])
        )

    def version(self, row: Mapping[str, Any]) -> str:
        """Hash of the prompt and of the policies of the row's categories."""
        return digest([self.prompts.version(self.stage), self.taxonomy.version_of(row["category"])])

    def schema(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """JSON schema of the answer; `None` for free text."""
        return None
