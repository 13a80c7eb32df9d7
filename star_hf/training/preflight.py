"""The check before a training: the labels follow the served prompt, and the batch is the recipe's."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets import Dataset

from ..errors import TrainingError
from .chat.templates import TODAY
from .chat.tokenise import IGNORED, ChatEncoder, Prompt
from .plan import TrainingPlan, count_parameters, gpu_minutes, memory_gib, window


if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = ["LabelPreflight", "Preflight", "preflight", "prompt_problems"]

PROBE = "hello world\n\n  Straße 3.14 "
"""Words, spaces and letters that a broken tokenizer does not give back (huggingface/transformers#45488)."""
SHOWN = 12
TAIL = 4
"""Label tokens at the end of a row among which a stop token must be: templates write line breaks after it."""


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """What any pre-flight check found: what is unusual or differs on purpose, and what forbids the training."""

    warnings: list[str]
    problems: list[str]

    def check(self) -> None:
        """Refuse the training if there are problems.

        Raises:
            [`TrainingError`]: With every problem, one per line.
        """
        if self.problems:
            raise TrainingError(
                "The pre-flight check refuses this training:\n"
                + "\n".join(f"- {problem}" for problem in self.problems),
                "Nothing was trained. Fix the recipe or the data and start again.",
            )


@dataclass(frozen=True)
class LabelPreflight(Preflight):
    """What the check of tokens and labels found, for fine-tuning and for preferences.

    Attributes:
        place, marks (`str`): Where the template takes a thought, and what stands around it.
        mended (`bool`): Whether the template drops thoughts, and training writes them in their place.
        primed (`int`): Rows that only teach how a thought begins.
        misaligned (`int`): Rows whose prompt differs from the served one.
        first_labels, last_labels (`str`): The first and last label tokens of the first row, as text.
        prefill (`str`): What the server must add to the generation prompt.
        memory_gib (`float` or `None`): Estimated per GPU.
        gpu_minutes (`float` or `None`): Estimated for one H100, without loading and saving.
    """

    template: str
    place: str
    marks: str
    mended: bool
    mode: str
    think: bool
    rows: int
    tokens: int
    label_tokens: int
    longest: int
    primed: int
    bos_in_training: int
    bos_in_serving: int
    misaligned: int
    first_labels: str
    last_labels: str
    prefill: str
    batch: int
    updates: int
    parameters: int | None
    memory_gib: float | None
    gpu_minutes: float | None

    @property
    def summary(self) -> str:
        """What is trained on, in one line."""
        return f"{self.rows} examples; first label tokens: {self.first_labels!r} ... {self.last_labels!r}"


def preflight(
    encoded: Dataset,
    prompt: Prompt,
    encoder: ChatEncoder,
    plan: TrainingPlan,
    config: "PretrainedConfig | None" = None,
) -> LabelPreflight:
    """Check a training before any weight is loaded.

    `encoded` are the rows of [`~star_hf.training.chat.tokenise.tokenise`]; for pairs of responses (`plan.sequences`)
    all chosen ones, then all rejected ones. Any row's prompt serves to compare the prompt in training with the served
    one. Without the model's configuration memory is not estimated.
    """
    if not len(encoded):
        raise TrainingError("There are no rows to train on.", "Check the data set and split of the recipe.")
    tokenizer, masking = encoder.tokenizer, encoder.masking
    ids, labels, primed = encoded["input_ids"][:], encoded["labels"][:], encoded["primed"][:]
    lengths = [len(row) for row in ids]
    learnt = [[label for label in row if label != IGNORED] for row in labels]
    examples = len(encoded) // plan.sequences
    passes = plan.max_updates * plan.batch / examples if plan.max_updates else plan.epochs
    misaligned = len(encoded) - sum(encoded["aligned"])
    parameters = None if config is None else count_parameters(config)
    memory = None if config is None else memory_gib(config, parameters, plan, max(lengths))

    bos, problems, differences = prompt_problems(encoder, prompt)
    if misaligned:
        on_purpose = differences if masking.mode == "paper" else problems
        on_purpose.append(f"in {misaligned} rows the ids before the first label are not the served prompt")
    ended = [begun or not encoder.stops.isdisjoint(row[-TAIL:]) for row, begun in zip(learnt, primed, strict=True)]
    if endless := ended.count(False):
        stops = " or ".join(map(repr, tokenizer.convert_ids_to_tokens(sorted(encoder.stops))))
        problems.append(f"{endless} rows do not end with {stops}: the model would never stop")
    if plan.max_length is not None and max(lengths) > plan.max_length:
        over = sum(length > plan.max_length for length in lengths)
        problems.append(f"{over} rows are longer than max_length = {plan.max_length} (longest {max(lengths)})")
    if config is not None and (most := window(config)) is not None and max(lengths) > most:
        over = sum(length > most for length in lengths)
        problems.append(f"{over} rows are longer than the model's {most} positions (longest {max(lengths)})")
    problems += plan.batch_problems() + plan.memory_problems(memory)
    if encoder.prefill:
        differences.append(f"serve with {encoder.prefill!r} after the generation prompt")
    return LabelPreflight(
        template=encoder.format.name,
        place=encoder.format.place,
        marks=f"{encoder.format.opening} ... {encoder.format.closing}",
        mended=encoder.format.mended,
        mode=masking.mode,
        think=masking.think,
        rows=examples,
        tokens=sum(lengths),
        label_tokens=sum(map(len, learnt)),
        longest=max(lengths),
        primed=sum(primed),
        bos_in_training=bos[0],
        bos_in_serving=bos[1],
        misaligned=misaligned,
        first_labels=tokenizer.decode(learnt[0][:SHOWN]),
        last_labels=tokenizer.decode(learnt[0][-SHOWN:]),
        prefill=encoder.prefill,
        batch=plan.batch,
        updates=plan.updates(examples),
        parameters=parameters,
        memory_gib=memory,
        gpu_minutes=None if parameters is None else gpu_minutes(parameters, sum(lengths) * passes),
        warnings=differences,
        problems=problems,
    )


def prompt_problems(encoder: ChatEncoder, prompt: Prompt) -> tuple[list[int], list[str], list[str]]:
    """Whether a prompt in training is the served one, on any prompt.

    Returns the BOS tokens in training and in serving, problems that forbid the training, and differences on purpose.
    """
    tokenizer = encoder.tokenizer
    training, serving = encoder.prompt_ids(prompt), encoder.serving_ids(prompt)
    bos = [_leading(ids, tokenizer.bos_token_id) for ids in (training, serving)]
    problems: list[str] = []
    differences: list[str] = []
    if tokenizer.decode(tokenizer(PROBE, add_special_tokens=False)["input_ids"]) != PROBE:
        problems.append(
            "the tokenizer does not give back its text (transformers#45488): load it with AutoTokenizer of "
            "transformers 5.23 or newer"
        )
    if bos[0] != bos[1] or training != serving:
        on_purpose = differences if encoder.masking.mode == "paper" else problems
        on_purpose.append(f"the prompt has {bos[0]} BOS tokens in training and {bos[1]} in serving")
    if encoder.arguments != encoder.given:
        differences.append(f"serve with chat_template_kwargs {json.dumps(encoder.arguments)}, which training uses")
    if encoder.format.dated:
        differences.append(f"the template writes the date; in training it is always {TODAY:%d %B %Y}")
    if bos[1] > 1:
        problems.append(f"the chat template and the tokenizer together put {bos[1]} BOS tokens before a prompt")
    return bos, problems, differences


def _leading(prompt: list[int], token: int | None) -> int:
    """How often the token is repeated at the start."""
    return next((place for place, each in enumerate(prompt) if each != token), len(prompt))
