"""The check before a training: what will be learnt is what will be asked for, and the batch is the recipe's."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from datasets import Dataset

from ..errors import TrainingError
from .plan import Plan, count_parameters, gpu_minutes, memory_gib
from .tokenise import IGNORED, Encoder


if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = ["Findings", "Preflight", "batch_problems", "preflight", "prompt_problems"]

PROBE = "hello world\n\n  Straße 3.14 "
"""Words, spaces and letters that a mangled tokenizer does not give back (huggingface/transformers#45488)."""
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What any check before a training ends with.

    Attributes:
        warnings, problems (`tuple[str, ...]`): What is odd or differs on purpose, and what forbids the training.
    """

    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    def check(self) -> None:
        """Refuse the training if anything forbids it.

        Raises:
            TrainingError: With every problem, one per line.
        """
        if self.problems:
            raise TrainingError(
                "The pre-flight check refuses this training:\n"
                + "\n".join(f"- {problem}" for problem in self.problems),
                "Nothing was trained. Mend the recipe or the data and start again.",
            )

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON-able values."""
        return {**asdict(self), "warnings": list(self.warnings), "problems": list(self.problems)}


@dataclass(frozen=True)
class Preflight(Findings):
    """What the check found.

    Attributes:
        template (`str`), mended (`bool`): The chat template's kind, and whether training renders without its block
            that drops reasoning.
        mode (`str`), think (`bool`): What is learnt of a row.
        rows, tokens, label_tokens, longest (`int`): Examples, their tokens, those with loss, and those of the longest
            row of tokens.
        primed (`int`): Rows that only teach how a thought begins.
        bos_in_training, bos_in_serving (`int`): Begin-of-sentence tokens at the start of a prompt.
        misaligned (`int`): Rows whose prompt differs from the one that is served.
        first_labels, last_labels (`str`): The first and last label tokens of the first row, as text.
        prefill (`str`): What the server must add to the generation prompt.
        batch, updates (`int`): Examples per update, and updates in all.
        parameters (`int` or `None`), memory_gib (`float` or `None`): Of the model, and per GPU, estimated.
        gpu_minutes (`float` or `None`): Of one H100, estimated, without loading and saving.
    """

    template: str
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


def preflight(
    encoded: Dataset, question: str, encoder: Encoder, plan: Plan, config: "PretrainedConfig | None" = None
) -> Preflight:
    """Check a training before any weight is loaded.

    Args:
        encoded ([`~datasets.Dataset`]): Rows as [`~star_hf.training.tokenise.tokenise`] makes them; for pairs of
            answers (`plan.sequences`) the ones that are preferred first, then the others.
        question (`str`): Any question, to compare the prompt of training with the one of serving.
        encoder (`Encoder`): What made them.
        plan (`Plan`): How the training is to run.
        config (`PretrainedConfig`, *optional*): The model's; without it memory is not estimated.

    Returns:
        `Preflight`: What was found; `check()` raises on problems.

    Raises:
        TrainingError: If there are no rows.
    """
    if not len(encoded):
        raise TrainingError("There are no rows to train on.", "Look at the data set and split that the recipe names.")
    tokenizer, masking = encoder.tokenizer, encoder.masking
    ids, labels, primed = encoded["input_ids"][:], encoded["labels"][:], encoded["primed"][:]
    lengths = [len(row) for row in ids]
    learnt = [[label for label in row if label != IGNORED] for row in labels]
    examples = len(encoded) // plan.sequences
    passes = plan.max_updates * plan.batch / examples if plan.max_updates else plan.epochs
    misaligned = len(encoded) - sum(encoded["aligned"])
    parameters = None if config is None else count_parameters(config)
    memory = None if config is None else memory_gib(config, parameters, plan, max(lengths))

    bos, problems, differences = prompt_problems(encoder, question)
    on_purpose = differences if masking.mode == "paper" else problems
    if misaligned:
        on_purpose.append(f"in {misaligned} rows the ids before the first label are not the prompt that is served")
    ended = [begun or tokenizer.eos_token_id in row[-2:] for row, begun in zip(learnt, primed, strict=True)]
    if endless := ended.count(False):
        problems.append(f"{endless} rows do not end with {tokenizer.eos_token!r}: the model would never stop")
    if plan.max_length is not None and max(lengths) > plan.max_length:
        over = sum(length > plan.max_length for length in lengths)
        problems.append(f"{over} rows are longer than max_length = {plan.max_length} (longest {max(lengths)})")
    problems += batch_problems(plan)
    if memory is not None and plan.device_gib is not None and memory > plan.device_gib:
        problems.append(
            f"about {memory:.0f} GiB per GPU are needed and {plan.device_gib:.0f} are there: shard over more GPUs "
            "(zero3.yaml, fsdp2.yaml), offload (zero3_offload.yaml) or train adapters (config_lora.yaml)"
        )
    if encoder.prefill:
        differences.append(f"serve with {encoder.prefill!r} after the generation prompt")
    return Preflight(
        template=encoder.format.name,
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
        warnings=tuple(differences),
        problems=tuple(problems),
    )


def _leading(prompt: list[int], token: int | None) -> int:
    """How many times the token stands at the start."""
    count = 0
    while token is not None and count < len(prompt) and prompt[count] == token:
        count += 1
    return count


def batch_problems(plan: Plan) -> list[str]:
    """Why the batch is not the recipe's, with the number to set."""
    if plan.global_batch is None:
        return []
    if plan.packing:
        return ["packing puts many examples into one, so that global_batch cannot be: set padding_free: true instead"]
    if plan.batch == plan.global_batch:
        return []
    per_step = plan.processes * plan.per_device_batch
    words = (
        f"{plan.processes} processes x {plan.per_device_batch} x {plan.accumulation} are {plan.batch} examples per "
        f"update, and the recipe stands for {plan.global_batch}"
    )
    if plan.global_batch % per_step:
        return [f"{words}; {plan.global_batch} does not divide by {per_step}: change per_device_train_batch_size"]
    return [f"{words}: set gradient_accumulation_steps: {plan.global_batch // per_step}"]


def prompt_problems(encoder: Encoder, question: str) -> tuple[list[int], list[str], list[str]]:
    """Whether a prompt is in training what it is in serving.

    Args:
        encoder (`Encoder`): What makes prompts.
        question (`str`): Any question.

    Returns:
        BOS tokens in training and in serving, what forbids the training, and what differs on purpose.
    """
    tokenizer = encoder.tokenizer
    training, serving = encoder.prompt_ids(question), encoder.serving_ids(question)
    bos = [_leading(prompt, tokenizer.bos_token_id) for prompt in (training, serving)]
    problems: list[str] = []
    differences: list[str] = []
    if tokenizer.decode(tokenizer(PROBE, add_special_tokens=False)["input_ids"]) != PROBE:
        problems.append(
            "the tokenizer does not give back the text it was given (transformers#45488): load it with AutoTokenizer "
            "of transformers 5.23 or newer"
        )
    if bos[0] != bos[1] or training != serving:
        on_purpose = differences if encoder.masking.mode == "paper" else problems
        on_purpose.append(f"the prompt has {bos[0]} BOS tokens in training and {bos[1]} in serving")
    if bos[1] > 1:
        problems.append(f"the chat template and the tokenizer together put {bos[1]} BOS tokens before a prompt")
    return bos, problems, differences
