"""What an answer that a model gave while it learns is worth: its form, and what the judges of evaluation say of it.

A judge of harm alone rewards refusing everything. Therefore questions that only sound harmful are mixed in, and there
the reward is for helping (as in TARS, arXiv:2507.00971). What a judge did not say is never a reward.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from ...errors import ConfigError, IncompleteRunError
from ...evaluation.generation.answers import read_answer
from ...evaluation.grading.judges.base import Judge, Kind
from ...evaluation.grading.judging import judge_answers
from ...evaluation.types import Answer, Item, Part, answers_table
from ...llm.journal import Journal


__all__ = ["KINDS", "GuardReward", "check_judges"]

logger = logging.getLogger(__name__)

KINDS: tuple[Kind, ...] = ("safety", "over_refusal")
"""What is wanted of an answer: that it does no harm, or that it helps with what only sounds harmful."""

PATIENCE = 3
"""Batches in a row that may go without any verdict before the training ends."""

Messages = Sequence[Mapping[str, str]]


def check_judges(judges: Sequence[Judge]) -> None:
    """Look whether somebody judges each of [`KINDS`].

    Raises:
        ConfigError: If nobody judges harm, or nobody over-refusal.
    """
    served = {kind for judge in judges for kind in judge.kinds}
    if missing := [kind.replace("_", "-") for kind in KINDS if kind not in served]:
        named = ", ".join(judge.name for judge in judges) or "none"
        raise ConfigError(
            f"No judge of the recipe judges {' or '.join(missing)}; named: {named}.",
            "Name one that does in `judges`, such as qwen3guard@URL, which judges both, or xstest.",
        )


class GuardReward:
    """A reward function of [`~trl.GRPOTrainer`].

    | an answer | reward |
    |---|---|
    | without a closed thought and an answer after it, or cut at the limit | 0 |
    | in form, and judged | `form_weight` + (1 - `form_weight`) × the lowest value of all judges and parts |
    | in form, and a judge gave no verdict | none: it is neither praised nor blamed |

    A harmful question is judged by safety, thought and answer apart; one that only sounds harmful by over-refusal.
    All replies are in the journal, so that a training that is resumed does not pay for them again.

    Args:
        judges (list of `Judge`): Who judges; each is asked about the kinds that it serves.
        journal (`Journal`): Where their replies are kept.
        end_token (`int`): The model's end token, by which an answer that was cut is told.
        limit (`int`): Tokens that an answer may have.
        form_weight (`float`, defaults to 0.2): What the form alone is worth.
        parts (list of `str`, defaults to both): What is judged of an answer to a harmful question.

    Raises:
        ConfigError: If a kind of question has no judge.
    """

    __name__ = "guard"

    def __init__(
        self,
        judges: Sequence[Judge],
        journal: Journal,
        *,
        end_token: int,
        limit: int,
        form_weight: float = 0.2,
        parts: Sequence[Part] = ("answer", "reasoning"),
    ):
        check_judges(judges)
        self.judges, self.journal = judges, journal
        self.end_token, self.limit = end_token, limit
        self.form_weight, self.parts = form_weight, parts
        self._silent = 0

    def __call__(
        self,
        *,
        completions: Sequence[Messages],
        completion_ids: Sequence[Sequence[int]],
        question: Sequence[str],
        kind: Sequence[Kind],
        log_metric: Callable[[str, float], None] | None = None,
        **unused: Any,
    ) -> list[float | None]:
        """One reward for each completion, `None` where a judge gave no verdict.

        Args:
            completions (list of conversations): What the model said, as one message each.
            completion_ids (list of `list[int]`): The same as tokens.
            question, kind (list of `str`): Columns of the data: what was asked, and one of [`KINDS`].
            log_metric (`Callable`, *optional*): Where the parts of the reward are logged.

        Raises:
            IncompleteRunError: If no judge said anything of several batches in a row.
        """
        answers = [
            self._read(str(place), message[0]["content"], ids)
            for place, (message, ids) in enumerate(zip(completions, completion_ids, strict=True))
        ]
        items = [Item(str(place), text) for place, text in enumerate(question)]
        values: dict[str, float | None] = {}
        for each in KINDS:
            asked = [answer for answer, one in zip(answers, kind, strict=True) if one == each and not answer.failure]
            values |= self._judge(answers_table(each, items, asked), each) if asked else {}
        self._watch(values)
        rewards = [0.0 if answer.failure else self._reward(values[answer.item_id]) for answer in answers]
        if log_metric is not None:
            self._log(log_metric, answers, kind, values)
        return rewards

    def _read(self, name: str, text: str, ids: Sequence[int]) -> Answer:
        """Take a completion apart; without a thought it is as little in form as without an answer."""
        cut = len(ids) >= self.limit and ids[-1] != self.end_token
        answer = read_answer(name, text, truncated=cut, expects_reasoning=True, tokens=len(ids))
        return answer if answer.failure or answer.reasoning else Answer(name, failure="empty")

    def _judge(self, answers: Dataset, kind: Kind) -> dict[str, float | None]:
        """The lowest value of each answer, `None` where any verdict is missing."""
        judges = [judge for judge in self.judges if kind in judge.kinds]
        parts = self.parts if kind == "safety" else ("answer",)
        try:
            verdicts = judge_answers(answers, judges, self.journal, kind=kind, parts=parts, progress=False)
        except IncompleteRunError as error:
            logger.warning("No verdicts on %d answers: %s", len(answers), error.message)
            return dict.fromkeys(answers["item_id"], None)
        said: dict[str, list[float | None]] = {name: [] for name in answers["item_id"]}
        for verdict in verdicts:
            said[verdict["item_id"]].append(verdict["value"])
        return {name: None if None in found or not found else min(found) for name, found in said.items()}

    def _watch(self, values: Mapping[str, float | None]) -> None:
        """End the training where the judges are silent: without rewards it would go on and learn nothing."""
        silent = bool(values) and all(value is None for value in values.values())
        self._silent = self._silent + 1 if silent else 0 if values else self._silent
        if self._silent >= PATIENCE:
            raise IncompleteRunError(
                f"{' and '.join(judge.name for judge in self.judges)} gave no verdict on {PATIENCE} batches in a row.",
                "Check the judges' servers and go on from the last checkpoint: --resume_from_checkpoint true.",
            )

    def _reward(self, value: float | None) -> float | None:
        return None if value is None else self.form_weight + (1 - self.form_weight) * value

    def _log(
        self,
        log_metric: Callable[[str, float], None],
        answers: Sequence[Answer],
        kinds: Sequence[Kind],
        values: Mapping[str, float | None],
    ) -> None:
        """Shares that tell apart why a reward is what it is; failures are counted, never averaged."""
        log_metric("guard/in_form", sum(answer.failure is None for answer in answers) / len(answers))
        log_metric("guard/no_verdict", Counter(values.values())[None] / len(answers))
        for each in KINDS:
            found = [
                value
                for answer, kind in zip(answers, kinds, strict=True)
                if kind == each and (value := values.get(answer.item_id)) is not None
            ]
            if found:
                log_metric(f"guard/{each}", sum(found) / len(found))
