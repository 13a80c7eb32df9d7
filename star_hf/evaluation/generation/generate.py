"""Completions of the model under evaluation: each is in the journal before it is used, and none is written twice."""

from collections.abc import Iterator, Sequence

from ...llm import Budget, Completion, Journal, Request
from ...llm.asking import Asking
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

    Args:
        items (`Sequence[Item]`): What to ask.
        model (`Model`): The model to ask.
        journal (`Journal`): Where completions are kept. What it holds is not asked again; its keys include the model's
            fingerprint, the prompt and the sampling parameters, so that no stale completion is found.
        sampling (`Sampling`): How completions are sampled.
        budget (`Budget`, *optional*): Dollars that may be spent.
        description (`str`, defaults to `"generate"`): The label of the progress bar.
        progress (`bool`, defaults to `True`): Whether to show a progress bar.

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
    return _read(items, requests, sampling.samples, journal)


def _conversation(item: Item) -> list[Message]:
    """The user's message and, if an attack prefills the answer, its opening."""
    opening = opening_of(item)
    turn = {"role": "user", "content": item.prompt}
    return [turn, {"role": "assistant", "content": opening}] if opening else [turn]


def _read(
    items: Sequence[Item], requests: Sequence[Keyed], samples: int, journal: Journal
) -> Iterator[tuple[Item, int, Completion]]:
    for place, (key, _) in enumerate(requests):
        entry = journal.get(key)
        assert entry is not None
        yield items[place // samples], place % samples, entry.completion
