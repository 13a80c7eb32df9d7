"""Completions of the model under evaluation: each is in the journal before it is used, and none is written twice."""

from collections.abc import Iterator, Sequence

from ...llm import Budget, Completion, Journal, Request
from ...llm.asking import FEW, Asking, forget_rejected
from ...llm.types import Keyed, Message
from ...utils.progress import track
from ..tasks.attacks import opening_of
from ..types import Item
from .models import Model, Sampling


__all__ = ["generate"]

STAGE = "evaluate"
"""The stage of the journal entries."""


def generate(
    items: Sequence[Item],
    model: Model,
    journal: Journal,
    sampling: Sampling,
    *,
    budget: Budget | None = None,
    description: str = "generate",
    progress: bool = True,
) -> Iterator[tuple[Item, int, Completion]]:
    """Ask a model every item, `sampling.samples` times.

    What the journal holds is not asked again. Its keys include the model's fingerprint, the prompt and the sampling
    parameters, so that no stale completion is found.

    Returns:
        Iterator of `(Item, int, Completion)`: Item, sample and completion, in the order of items and samples.

    Raises:
        ConfigError: If the model refuses key, name or account, or a budget is set but no price.
        IncompleteRunError: If completions are missing. Those that came are kept, and the same call goes on.
    """
    identity = model.identity(sampling)
    requests: list[Keyed] = []
    for item in items:
        for sample in range(sampling.samples):
            request = Request(_conversation(item), sample=sample)
            requests.append((request.key(identity), request))
    rejected = [key for key, _ in requests if _is_rejected(journal, key)]
    if len(rejected) > FEW * len(requests):
        forget_rejected(journal, rejected)
    if not all(key in journal for key, _ in requests):
        target = model.provider(requests, sampling, journal)
        with track(f"{description}: {model.name}", len(requests), progress) as bar:
            asking = Asking(STAGE, str(identity["at"]), target, journal, bar, budget)
            if not asking.run(lambda: iter(requests)):
                missing = sum(key not in journal for key, _ in requests)
                raise asking.incomplete(
                    f"{description}: no answer from {model.name!r} for {missing} of {len(requests)} requests",
                    f"All answers so far are in {journal.path}.",
                )
    asked = ((item, sample) for item in items for sample in range(sampling.samples))
    return ((*each, journal.get(key).completion) for each, (key, _) in zip(asked, requests, strict=True))


def _conversation(item: Item) -> list[Message]:
    """The user's message and, if an attack prefills the answer, its opening."""
    opening = opening_of(item)
    turn = {"role": "user", "content": item.prompt}
    return [turn, {"role": "assistant", "content": opening}] if opening else [turn]


def _is_rejected(journal: Journal, key: str) -> bool:
    entry = journal.get(key)
    return entry is not None and entry.completion.outcome == "invalid_request"
