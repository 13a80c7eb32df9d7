"""Answers of the model under evaluation: every one in the journal before it is used, so that none is written twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import IncompleteRunError
from ...llm import Completion, Journal, Request
from ...llm.journal import Entry
from ...llm.types import Message
from ...utils.progress import track
from ..tasks.attacks import opening_of
from ..types import Item
from .models import Keyed, Model, Sampling


__all__ = ["generate"]

STAGE = "evaluate"
"""Under which the journal keeps them."""


def generate(
    items: Sequence[Item],
    model: Model,
    journal: Journal,
    sampling: Sampling,
    *,
    description: str = "generate",
    progress: bool = True,
) -> Iterator[tuple[Item, int, Completion]]:
    """Ask a model every item, `sampling.samples` times.

    Args:
        items (`Sequence[Item]`): What to ask.
        model (`Model`): Whom.
        journal (`Journal`): Where answers are kept. What it holds is not asked again; its keys hold the model's
            fingerprint, the prompt and the sampling parameters, so nothing stale is found.
        sampling (`Sampling`): How answers are drawn.
        description (`str`, defaults to `"generate"`): Before the progress bar.
        progress (`bool`, defaults to `True`): Whether to show one.

    Returns:
        Iterator of `(Item, int, Completion)`: Item, sample and answer, in the order of items and samples.

    Raises:
        ConfigError: If the model refuses key, name or account.
        IncompleteRunError: If answers are missing. Those that came are kept, and the same call goes on.
    """
    identity = model.identity(sampling)
    requests: list[Keyed] = []
    for item in items:
        for sample in range(sampling.samples):
            request = Request(_conversation(item), sample=sample)
            requests.append((request.key(identity), request))
    missing = sum(key not in journal for key, _ in requests)
    if missing:
        with track(f"{description}: {model.name}", missing, progress) as bar:

            def keep(answers: Sequence[tuple[str, Completion]]) -> None:
                journal.merge(_entry(key, completion, model, identity) for key, completion in answers)
                for _ in answers:
                    bar.advance()

            why = model.complete(requests, sampling, journal.__contains__, keep)
        missing = sum(key not in journal for key, _ in requests)
        if missing:
            raise IncompleteRunError(
                f"{description}: {missing} of {len(requests)} answers of {model.name!r} are missing; "
                f"the last failure: {why}",
                f"All answers so far are in {journal.path}. Run the same command again to go on.",
            )
    return _read(items, requests, sampling.samples, journal)


def _conversation(item: Item) -> list[Message]:
    """What a model is given for an item: the user's message, and where an attack prefills it, the answer's opening."""
    opening = opening_of(item)
    turn = {"role": "user", "content": item.prompt}
    return [turn, {"role": "assistant", "content": opening}] if opening else [turn]


def _entry(key: str, completion: Completion, model: Model, identity: Mapping[str, Any]) -> Entry:
    return Entry(key, STAGE, str(identity["at"]), "", completion, model.cost(completion))


def _read(
    items: Sequence[Item], requests: Sequence[Keyed], samples: int, journal: Journal
) -> Iterator[tuple[Item, int, Completion]]:
    for place, (key, _) in enumerate(requests):
        entry = journal.get(key)
        assert entry is not None
        yield items[place // samples], place % samples, entry.completion
