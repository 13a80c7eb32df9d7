"""Reinforcement learning with judges as the reward: GRPO with TRL (arXiv:2402.03300), on harmful and benign questions.

As in TARS (arXiv:2507.00971), a light fine-tuning comes first, and questions that only sound harmful are mixed in.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, concatenate_datasets
from trl import DatasetMixtureConfig, GRPOTrainer

from ...errors import ConfigError
from ...evaluation.grading.judges import Judge, load_judge
from ...evaluation.grading.judging import probe
from ...llm.journal.repair import guarded
from ..chat.tokenise import ChatEncoder
from ..data import digest, limit_rows, load_columns, origins
from ..plan import TrainingPlan, count_parameters, memory_gib, window
from ..preflight import Preflight, prompt_problems
from ..recipe import Recipe, RecipeArguments, parse_recipe
from ..record import TrainingRecord
from .parts import chat_encoder, load_parts
from .reward import GuardReward, check_judges
from .session import Prepared, StarMixin, run, set_up, training_plan


if TYPE_CHECKING:
    from transformers import PretrainedConfig


__all__ = ["GRPOArguments", "PolicyTrainer", "RolloutPreflight", "parse", "prepare", "train"]


@dataclass
class GRPOArguments(RecipeArguments):
    """Our options of reinforcement learning, beside TRL's own.

    `datasets` are harmful questions, and `global_batch` counts completions: questions × `num_generations`.

    Args:
        benign (`list[dict]`): Data sets of questions that only sound harmful, in the form of `datasets`.
        judges (`list[str]`): Judges that reward, as in `star-hf evaluate --judge`; at least one must judge harm, and
            one over-refusal.
        form_weight (`float`, defaults to 0.2): Reward for a closed thought and an answer alone.
        judge_reasoning (`bool`, defaults to `True`): Whether the thought is judged too.
        chat_template_path (`str`, *optional*): A `.jinja` file that replaces the model's chat template.
    """

    benign: list[dict] = field(default_factory=list)
    judges: list[str] = field(default_factory=list)
    form_weight: float = 0.2
    judge_reasoning: bool = True
    chat_template_path: str | None = None


class PolicyTrainer(StarMixin, GRPOTrainer):
    """[`~trl.GRPOTrainer`] that pushes nothing."""


def parse(arguments: Sequence[str] | None = None) -> Recipe:
    """Read a recipe for GRPO; see [`~star_hf.training.recipe.parse_recipe`]."""
    return parse_recipe(arguments, GRPOArguments, "GRPOConfig")


@dataclass(frozen=True)
class RolloutPreflight(Preflight):
    """What the check of questions, generation and judges found.

    `batch` counts completions per update, and `generations` those per question. `memory_gib` is estimated per GPU,
    without generation's cache.
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
    parameters: int | None
    memory_gib: float | None

    @property
    def summary(self) -> str:
        """What is trained on, in one line."""
        return f"{self.harmful} harmful and {self.benign} benign questions; judges: {', '.join(self.judges)}"


def prepare(recipe: Recipe, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration, questions and judges, and check them. Loads no weights and calls no judge.

    The rows have `prompt`, `question` and `kind`; `processes` are those of this launch by default.
    """
    star, options = recipe.star, recipe.training
    judges = _judges(recipe)
    if not star.benign:
        raise ConfigError(
            "The recipe has no benign questions: a judge of harm alone rewards refusing everything.",
            "Set `benign: [{path: UCSC-VLAA/STAR-benign-915, columns: [question]}]`.",
        )
    tokenizer, config = load_parts(recipe)
    harmful = limit_rows(load_columns(recipe.data, star.train_split, ("question",)), star)
    benign = load_columns(_mixture(star.benign), star.train_split, ("question",))
    rows = concatenate_datasets([_prompts(harmful, "safety"), _prompts(benign, "over_refusal")])
    reference = options.beta != 0 and not recipe.model.use_peft
    plan = training_plan(recipe, processes, max_length=options.max_completion_length, reference=reference)
    encoder = chat_encoder(recipe, tokenizer, config)
    options.chat_template_kwargs = encoder.arguments
    findings = _check(rows, encoder, plan, config, options, judges)
    return Prepared(tokenizer, rows, rows, findings, getattr(config, "_commit_hash", None))


def train(recipe: Recipe) -> TrainingRecord:
    """Check, probe the judges, train, and save model, record and picture into `output_dir`.

    The judges' replies are kept in `judges-<node>.sqlite` there. A judge that does not reply ends the training.
    """
    star, options = recipe.star, recipe.training
    prepared = prepare(recipe)
    prepared.findings.check()
    judges = _judges(recipe)
    for judge in judges:
        probe(judge)
    set_up(recipe)
    _keep_prompts_out_of_logs()
    sha256 = digest(prepared.rows, ["question", "kind"])
    with guarded(Path(options.output_dir) / f"judges-{os.environ.get('GROUP_RANK', '0')}.sqlite") as journal:
        reward = GuardReward(
            judges,
            journal,
            end_token=prepared.tokenizer.eos_token_id,
            limit=options.max_completion_length,
            form_weight=star.form_weight,
            parts=("answer", "reasoning") if star.judge_reasoning else ("answer",),
        )
        return run(
            PolicyTrainer,
            recipe,
            prepared,
            method="grpo",
            datasets=[
                *origins(recipe.data, prepared.findings.harmful, sha256),
                *origins(_mixture(star.benign), prepared.findings.benign, sha256),
            ],
            reward_funcs=reward,
        )


def _judges(recipe: Recipe) -> list[Judge]:
    judges = [load_judge(judge) for judge in recipe.star.judges]
    check_judges(judges)
    return judges


def _mixture(entries: Sequence[dict[str, Any]]) -> DatasetMixtureConfig:
    """Data sets in the form of a recipe's `datasets`."""
    try:
        return DatasetMixtureConfig(datasets=[dict(entry) for entry in entries])
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Invalid `benign` in the recipe: {error}", "Write it like `datasets`.") from None


def _prompts(rows: Dataset, kind: str) -> Dataset:
    """The questions as conversations, which TRL renders with the tokenizer's template."""
    questions = rows["question"][:]
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": question}] for question in questions],
            "question": questions,
            "kind": [kind] * len(questions),
        }
    )


def _check(
    rows: Dataset,
    encoder: ChatEncoder,
    plan: TrainingPlan,
    config: "PretrainedConfig",
    options: Any,
    judges: Sequence[Judge],
) -> RolloutPreflight:
    kinds = rows["kind"][:]
    lengths = [len(encoder.serving_ids(question)) for question in rows["question"][:]]
    longest, limit, generations = max(lengths, default=0), options.max_completion_length, options.num_generations
    bos, problems, warnings = prompt_problems(encoder, rows[0]["question"] if len(rows) else "")
    problems += plan.batch_problems()
    if not limit:
        problems.append("max_completion_length is not set: a completion could be endless")
    most = window(config)
    if limit and most and longest + limit > most:
        problems.append(
            f"the longest prompt ({longest} tokens) and a completion of {limit} exceed the model's {most} tokens"
        )
    if plan.batch % generations:
        problems.append(f"{plan.batch} completions per update do not divide by num_generations = {generations}")
    harmful, benign = kinds.count("safety"), kinds.count("over_refusal")
    problems += [f"there are no {name} questions" for name, n in (("harmful", harmful), ("benign", benign)) if not n]
    if 0 < benign < len(rows) / 5:
        warnings.append(f"only {benign} of {len(rows)} questions are benign: expect over-refusal")
    parameters = count_parameters(config)
    memory = memory_gib(config, parameters, plan, longest + (limit or 0))
    problems += plan.memory_problems(memory)
    return RolloutPreflight(
        template=encoder.format.name,
        harmful=harmful,
        benign=benign,
        longest_prompt=longest,
        max_completion=limit or 0,
        bos_in_serving=bos[1],
        batch=plan.batch,
        generations=generations,
        updates=plan.max_updates or int(len(rows) * generations // plan.batch * plan.epochs),
        judges=[judge.name for judge in judges],
        parameters=parameters,
        memory_gib=memory,
        warnings=warnings,
        problems=problems,
    )


def _keep_prompts_out_of_logs() -> None:
    """TRL logs question and completion where no reward function gave a reward; ours counts them as `no_verdict`."""

    def harmless(record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()

    logging.getLogger("trl.trainer.grpo_trainer").addFilter(harmless)
