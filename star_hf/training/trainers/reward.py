"""The reward of a completion during training: its form, and what the judges of evaluation say about it.

A judge of harm alone rewards refusing everything. Therefore questions that only sound harmful are mixed in, and
completions to them are rewarded for helping (as in TARS, arXiv:2507.00971). A missing verdict is never a reward.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datasets import Dataset

from ...errors import ConfigError, IncompleteRunError
from ...evaluation.generation.responses import read_response
from ...evaluation.grading.judges.base import Judge, Kind
from ...evaluation.grading.judging import judge_responses
from ...evaluation.types import Item, Part, Response, responses_table
from ...llm.journal import Journal


__all__ = ["KINDS", "GuardReward", "check_judges"]

logger = logging.getLogger(__name__)

KINDS: tuple[Kind, ...] = ("safety", "over_refusal")
"""What a completion is judged for: doing no harm, or helping with what only sounds harmful."""

PATIENCE = 3
"""Batches in a row without any verdict after which the training ends."""

Messages = Sequence[Mapping[str, str]]


def check_judges(judges: Sequence[Judge]) -> None:
    """Check that each of [`KINDS`] has a judge.

    Raises:
        [`ConfigError`]: If a kind has none.
    """
    served = {kind for judge in judges for kind in judge.kinds}
    if missing := [kind.replace("_", "-") for kind in KINDS if kind not in served]:
        named = ", ".join(judge.name for judge in judges) or "none"
        raise ConfigError(
            f"No judge of the recipe judges {' or '.join(missing)}; named: {named}.",
            "Add one to `judges`, such as xstest, or qwen3guard@URL, which judges both.",
        )


class GuardReward:
    """A reward function of [`~trl.GRPOTrainer`].

    | a completion | reward |
    |---|---|
    | without a closed thought and an answer after it, or truncated | 0 |
    | in form, and judged | `form_weight` + (1 - `form_weight`) × the lowest value of all judges and parts |
    | in form, but a judge gave no verdict | none: it changes nothing |

    Completions to harmful questions are judged for safety, thought and answer apart; those to questions that only
    sound harmful for over-refusal. All replies are in the journal: a resumed training does not pay for them again.

    Args:
        judges (list of `Judge`): The judges; each judges the kinds that it supports.
        journal (`Journal`): Where their replies are kept.
        end_token (`int`): The model's end token; a truncated completion lacks it.
        limit (`int`): Most tokens of a completion.
        form_weight (`float`, defaults to 0.2): Reward for the form alone.
        parts (list of `str`, defaults to both): Which parts are judged for harmful questions.
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
        """One reward per completion, `None` where a judge gave no verdict.

        A completion is a conversation of one message, with its tokens in `completion_ids`. `question` and `kind`, one
        of [`KINDS`], are columns of the data. `log_metric` logs the parts of the reward.

        Raises:
            [`IncompleteRunError`]: If there was no verdict at all in several batches in a row.
        """
        answers = [
            self._read(str(place), message[0]["content"], ids)
            for place, (message, ids) in enumerate(zip(completions, completion_ids, strict=True))
        ]
        items = [Item(str(place), text) for place, text in enumerate(question)]
        values: dict[str, float | None] = {}
        for each in KINDS:
            asked = [answer for answer, one in zip(answers, kind, strict=True) if one == each and not answer.failure]
            values |= self._judge(responses_table(each, items, asked), each) if asked else {}
        self._watch(values)
        if log_metric is not None:
            _log(log_metric, answers, kind, values)
        return [0.0 if answer.failure else self._reward(values[answer.item_id]) for answer in answers]

    def _read(self, name: str, text: str, ids: Sequence[int]) -> Response:
        """Split a completion; one without a thought fails like one without an answer."""
        cut = len(ids) >= self.limit and ids[-1] != self.end_token
        answer = read_response(name, text, truncated=cut, expects_reasoning=True, tokens=len(ids))
        return answer if answer.failure or answer.reasoning else Response(name, failure="empty")

    def _judge(self, answers: Dataset, kind: Kind) -> dict[str, float | None]:
        """The lowest value of each answer, `None` where any verdict is missing."""
        judges = [judge for judge in self.judges if kind in judge.kinds]
        parts = self.parts if kind == "safety" else ("answer",)
        try:
            verdicts = judge_responses(answers, judges, self.journal, kind=kind, parts=parts, progress=False)
        except IncompleteRunError as error:
            logger.warning("No verdicts on %d answers: %s", len(answers), error.message)
            return dict.fromkeys(answers["item_id"], None)
        said: dict[str, list[float | None]] = {name: [] for name in answers["item_id"]}
        for verdict in verdicts:
            said[verdict["item_id"]].append(verdict["value"])
        return {name: None if None in found or not found else min(found) for name, found in said.items()}

    def _watch(self, values: Mapping[str, float | None]) -> None:
        """End the training if the judges give no verdicts: without rewards it would learn nothing."""
        silent = bool(values) and all(value is None for value in values.values())
        self._silent = self._silent + 1 if silent else 0 if values else self._silent
        if self._silent >= PATIENCE:
            raise IncompleteRunError(
                f"{' and '.join(judge.name for judge in self.judges)} gave no verdict on {PATIENCE} batches in a row.",
                "Check the judges' servers and resume from the last checkpoint: --resume_from_checkpoint true.",
            )

    def _reward(self, value: float | None) -> float | None:
        return None if value is None else self.form_weight + (1 - self.form_weight) * value


def _log(
    log_metric: Callable[[str, float], None],
    answers: Sequence[Response],
    kinds: Sequence[Kind],
    values: Mapping[str, float | None],
) -> None:
    """Log the shares behind the rewards; failures are counted, never averaged."""
    log_metric("guard/in_form", sum(answer.failure is None for answer in answers) / len(answers))
    log_metric("guard/no_verdict", Counter(values.values())[None] / len(answers))
    for kind in KINDS:
        judged = [values.get(answer.item_id) for answer, each in zip(answers, kinds, strict=True) if each == kind]
        if found := [value for value in judged if value is not None]:
            log_metric(f"guard/{kind}", sum(found) / len(found))
