"""Completions of the model under evaluation: each is in the journal before it is used, and none is written twice."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...llm import Budget, Completion, Journal, Request
from ...llm.asking import FEW, Asking, forget_rejected
from ...llm.types import Keyed, Message
from ...utils.progress import track
from ..tasks.attacks import opening_of
from ..types import Item
from .models import Model, Sampling, Served
from .responses import read_completion


__all__ = ["Drawn", "generate"]

logger = logging.getLogger(__name__)

STAGE = "evaluate"
"""The stage of the journal entries."""


class Drawn(NamedTuple):
    """One sample of an item.

    Attributes:
        completion (`Completion`): The reply to the item's prompt, or to the earlier turn that failed.
        history (`list[Message]`): The messages before the prompt, or before that turn.
        failure (`str` or `None`): Why an earlier turn has no answer, one of `FAILURES`. The prompt was not sent then.
    """

    item: Item
    sample: int
    completion: Completion
    history: list[Message]
    failure: str | None = None


@dataclass
class _Talk:
    """The conversation about one sample of an item, as far as it has come."""

    item: Item
    sample: int
    history: list[Message]
    key: str = ""
    failure: str | None = None

    def request(self, turn: int) -> Request | None:
        """The request of a turn; `None` if it is over."""
        turns = self.item.turns
        if self.failure or turn > len(turns):
            return None
        asked = self.item.prompt if turn == len(turns) else turns[turn]
        messages = [*self.history, {"role": "user", "content": asked}]
        opening = opening_of(self.item)
        if opening and turn == len(turns):
            messages.append({"role": "assistant", "content": opening})
        return Request(messages, sample=self.sample)

    def answer(self, turn: int, completion: Completion, expects_reasoning: bool) -> None:
        """Take the reply to an earlier turn. The model is sent its answers, not its reasoning."""
        read = read_completion(self.item.id, completion, expects_reasoning=expects_reasoning)
        self.failure = read.failure
        if read.answer is not None:
            said = {"role": "assistant", "content": read.answer}
            self.history += [{"role": "user", "content": self.item.turns[turn]}, said]


def generate(
    items: Sequence[Item],
    model: Model,
    journal: Journal,
    sampling: Sampling,
    *,
    system: str | None = None,
    expects_reasoning: bool = False,
    budget: Budget | None = None,
    description: str = "generate",
    progress: bool = True,
) -> Iterator[Drawn]:
    """Ask a model every item, `sampling.samples` times, and those of several turns turn by turn.

    What the journal holds is not asked again. Its keys include the model's fingerprint, the messages and the sampling
    parameters, so that no stale completion is found.

    Args:
        system (`str`, *optional*): The system prompt of items that have none of their own.
        expects_reasoning (`bool`, defaults to `False`): As for
            [`~star_hf.evaluation.generation.responses.read_response`], which reads the earlier turns.

    Returns:
        Iterator of [`Drawn`]: In the order of items and samples.

    Raises:
        ConfigError: If the model refuses key, name or account, or a budget is set but no price.
        IncompleteRunError: If completions are missing. Those that came are kept, and the same call goes on.
    """
    identity = model.identity(sampling)
    talks = [_Talk(item, n, _opened(item.system or system)) for item in items for n in range(sampling.samples)]
    last = max((len(item.turns) for item in items), default=0)
    for turn in range(last + 1):
        asked = [(talk, request) for talk in talks if (request := talk.request(turn)) is not None]
        requests = [(request.key(identity), request) for _, request in asked]
        what = description if not last else f"{description}, turn {turn + 1} of {last + 1}"
        _ask(requests, model, journal, sampling, budget, what, progress)
        for (talk, _), (key, _) in zip(asked, requests, strict=True):
            talk.key = key
            if turn < len(talk.item.turns):
                talk.answer(turn, journal.get(key).completion, expects_reasoning)
    return (
        Drawn(talk.item, talk.sample, journal.get(talk.key).completion, talk.history, talk.failure) for talk in talks
    )


def _opened(system: str | None) -> list[Message]:
    return [{"role": "system", "content": system}] if system else []


def _ask(
    requests: list[Keyed],
    model: Model,
    journal: Journal,
    sampling: Sampling,
    budget: Budget | None,
    description: str,
    progress: bool,
) -> None:
    """Have all of these requests answered in the journal."""
    rejected = [key for key, _ in requests if _is_rejected(journal, key)]
    if len(rejected) > FEW * len(requests):
        forget_rejected(journal, rejected)
    reused = sum(key in journal for key, _ in requests)
    if reused and isinstance(model, Served) and model.by_name_alone:
        logger.warning(
            "%s: %d of %d answers of %s are reused. Its server does not tell its weights: if they are others now, "
            "give them another --fingerprint.",
            *(description, reused, len(requests), model.name),
        )
    if reused == len(requests):
        return
    target = model.provider(requests, sampling, journal)
    with track(f"{description}: {model.name}", len(requests), progress) as bar:
        asking = Asking(STAGE, str(model.identity(sampling)["at"]), target, journal, bar, budget)
        if not asking.run(lambda: iter(requests)):
            missing = sum(key not in journal for key, _ in requests)
            raise asking.incomplete(
                f"{description}: no answer from {model.name!r} for {missing} of {len(requests)} requests",
                f"All answers so far are in {journal.path}.",
            )


def _is_rejected(journal: Journal, key: str) -> bool:
    entry = journal.get(key)
    return entry is not None and entry.completion.outcome == "invalid_request"
