"""Reinforcement learning with judges as the reward: GRPO with TRL (arXiv:2402.03300), on harmful and benign questions.

As in TARS (arXiv:2507.00971) a light fine-tuning comes first, and questions that only sound harmful are mixed in.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets
from trl import DatasetMixtureConfig, GRPOTrainer, get_peft_config

from ...errors import ConfigError
from ...evaluation.grading.judges import Judge, load_judge
from ...evaluation.grading.judging import probe
from ...llm.journal import Journal
from ..data import digest, few, load_columns, origins
from ..plan import Plan, count_parameters, memory_gib
from ..preflight import Findings, batch_problems, prompt_problems
from ..recipe import Arguments, RecipeArguments, parse_recipe
from ..record import TrainingRecord
from ..tokenise import Encoder
from .reward import GuardReward, check_judges
from .running import Unpublished, plan, run, set_up, start
from .sft import load_parts


if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


__all__ = ["GuardArguments", "PolicyTrainer", "Prepared", "Rollout", "main", "parse", "prepare", "train"]


@dataclass
class GuardArguments(RecipeArguments):
    """What a recipe of reinforcement learning may say beside TRL's own options.

    `datasets` are harmful questions, and `global_batch` counts answers: questions × `num_generations`.

    Args:
        benign (`list[dict]`): Data sets of questions that only sound harmful, as `datasets` names its own.
        judges (`list[str]`): Who rewards, as `star-hf evaluate --judge` takes them; at least one must judge harm, and
            one over-refusal.
        form_weight (`float`, defaults to 0.2): What a closed thought and an answer are worth in themselves.
        judge_reasoning (`bool`, defaults to `True`): Whether the thought is judged, too.
    """

    benign: list[dict] = field(default_factory=list)
    judges: list[str] = field(default_factory=list)
    form_weight: float = 0.2
    judge_reasoning: bool = True


class PolicyTrainer(Unpublished, GRPOTrainer):
    """[`~trl.GRPOTrainer`] that pushes nothing."""


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Read a recipe (`--config`) and the options that replace its lines; those of the command line by default.

    Raises:
        ConfigError: If the recipe cannot be read or has an option that is not one.
    """
    return parse_recipe(arguments, GuardArguments, "GRPOConfig")


@dataclass(frozen=True)
class Rollout(Findings):
    """What the check before the training found.

    Attributes:
        template (`str`): The chat template's kind.
        harmful, benign (`int`): Questions of each kind.
        longest_prompt (`int`), max_completion (`int`): Tokens of the longest prompt, and what an answer may have.
        bos_in_serving (`int`): Begin-of-sentence tokens at the start of a prompt.
        batch, generations, updates (`int`): Answers per update, answers per question, and updates in all.
        judges (`list[str]`): Who rewards.
        parameters (`int`), memory_gib (`float`): Of the model, and per GPU, estimated, without generation's cache.
    """

    template: str
    harmful: int
    benign: int
    longest_prompt: int
    max_completion: int
    bos_in_serving: int
    batch: int
    generations: int
    updates: int
    judges: list[str]
    parameters: int
    memory_gib: float


@dataclass(frozen=True)
class Prepared:
    """All that a training needs but the weights. The rows have `prompt`, `question` and `kind`."""

    tokenizer: "PreTrainedTokenizerBase"
    rows: Dataset
    judges: list[Judge]
    findings: Rollout


def prepare(arguments: Arguments, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration, questions and judges, and check them. Loads no weights and asks no judge.

    Args:
        arguments (`Arguments`): The recipe.
        processes (`int`, *optional*): Processes of the training; those of this launch by default.

    Raises:
        TrainingError: If the chat template cannot be trained on or the data lack a column.
        ConfigError: If the recipe names no model, no data set, no benign questions or no judge of either kind.
    """
    star, options = arguments.star, arguments.training
    judges = [load_judge(judge) for judge in star.judges]
    check_judges(judges)
    if not star.benign:
        raise ConfigError(
            "The recipe has no benign questions: a judge of harm alone rewards refusing everything.",
            "Set `benign: [{path: UCSC-VLAA/STAR-benign-915, columns: [question]}]`.",
        )
    tokenizer, config = load_parts(arguments)
    harmful = few(load_columns(arguments.data, star.train_split, ("question",)), star)
    benign = load_columns(_mixture(star.benign), star.train_split, ("question",))
    rows = concatenate_datasets([_asked(harmful, "safety"), _asked(benign, "over_refusal")])
    encoder = Encoder(tokenizer)
    copy = options.beta != 0 and not arguments.model.use_peft
    how = plan(arguments, processes, max_length=options.max_completion_length, reference=copy)
    findings = _check(rows, encoder, how, config, options, judges)
    return Prepared(tokenizer, rows, judges, findings)


def train(arguments: Arguments) -> TrainingRecord:
    """Check, ask the judges for a sign of life, train, and save model, record and picture into `output_dir`.

    The replies of the judges are kept in `judges-<node>.sqlite` there.

    Raises:
        TrainingError: If the check refuses; nothing was trained then.
        IncompleteRunError: If a judge does not answer before the training, or stops answering in it.
    """
    star, options, model = arguments.star, arguments.training, arguments.model
    prepared = prepare(arguments)
    prepared.findings.check()
    for judge in prepared.judges:
        probe(judge)
    set_up(arguments)
    _keep_prompts_out_of_logs()
    folder = Path(options.output_dir)
    with Journal(folder / f"judges-{os.environ.get('GROUP_RANK', '0')}.sqlite") as journal:
        reward = GuardReward(
            prepared.judges,
            journal,
            end_token=prepared.tokenizer.eos_token_id,
            limit=options.max_completion_length,
            form_weight=star.form_weight,
            parts=("answer", "reasoning") if star.judge_reasoning else ("answer",),
        )
        trainer = PolicyTrainer(
            model=model.model_name_or_path,
            reward_funcs=reward,
            args=options,
            train_dataset=prepared.rows,
            processing_class=prepared.tokenizer,
            peft_config=get_peft_config(model),
        )
        sha256 = digest(prepared.rows, ["question", "kind"])
        return run(
            trainer,
            arguments,
            method="grpo",
            mode="recommended",
            datasets=[
                *origins(arguments.data, prepared.findings.harmful, sha256),
                *origins(_mixture(star.benign), prepared.findings.benign, sha256),
            ],
            preflight=prepared.findings.to_dict(),
        )


def main() -> Arguments:
    """Entry of `recipes/grpo.py`: train, and answer with what."""
    return start(parse, train)


def _mixture(entries: Sequence[dict[str, Any]]) -> DatasetMixtureConfig:
    """Data sets as `datasets` of a recipe names them."""
    try:
        return DatasetMixtureConfig(datasets=[dict(entry) for entry in entries])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`benign` of the recipe cannot be used: {error}", "Write it as `datasets`.") from None


def _asked(rows: Dataset, kind: str) -> Dataset:
    """The questions as TRL asks them: rendered by the tokenizer's own template."""
    questions = rows["question"][:]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": question}] for question in questions],
            "question": questions,
            "kind": [kind] * len(questions),
        }
    )


def _check(
    rows: Dataset, encoder: Encoder, how: Plan, config: "PretrainedConfig", options: Any, judges: Sequence[Judge]
) -> Rollout:
    kinds = rows["kind"][:]
    lengths = [len(encoder.serving_ids(question)) for question in rows["question"][:]]
    longest, limit, generations = max(lengths, default=0), options.max_completion_length, options.num_generations
    bos, problems, warnings = prompt_problems(encoder, rows[0]["question"] if len(rows) else "")
    problems += batch_problems(how)
    if not limit:
        problems.append("max_completion_length is not set: an answer could be endless")
    window = getattr(config, "max_position_embeddings", None)
    if limit and window and longest + limit > window:
        problems.append(f"the longest prompt ({longest} tokens) and {limit} of an answer exceed the model's {window}")
    if how.batch % generations:
        problems.append(f"{how.batch} answers per update do not divide by num_generations = {generations}")
    counts = {kind: kinds.count(kind) for kind in ("safety", "over_refusal")}
    for kind, words in (("safety", "harmful"), ("over_refusal", "benign")):
        if not counts[kind]:
            problems.append(f"there are no {words} questions")
    if 0 < counts["over_refusal"] < len(rows) / 5:
        warnings.append(f"only {counts['over_refusal']} of {len(rows)} questions are benign: expect over-refusal")
    parameters = count_parameters(config)
    memory = memory_gib(config, parameters, how, longest + (limit or 0))
    if how.device_gib is not None and memory > how.device_gib:
        problems.append(f"about {memory:.0f} GiB per GPU are needed and {how.device_gib:.0f} are there")
    return Rollout(
        template=encoder.format.name,
        harmful=counts["safety"],
        benign=counts["over_refusal"],
        longest_prompt=longest,
        max_completion=limit or 0,
        bos_in_serving=bos[1],
        batch=how.batch,
        generations=generations,
        updates=how.max_updates or int(len(rows) * generations // how.batch * how.epochs),
        judges=[judge.name for judge in judges],
        parameters=parameters,
        memory_gib=memory,
        warnings=tuple(warnings),
        problems=tuple(problems),
    )


def _keep_prompts_out_of_logs() -> None:
    """TRL prints question and answer where no reward function gave a reward; ours counts them as `no_verdict`."""

    def harmless(record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()

    logging.getLogger("trl.trainer.grpo_trainer").addFilter(harmless)
