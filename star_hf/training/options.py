"""TRL's options: those that a training here cannot honour, each with its reason, and those that change its outcome."""

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from ..errors import ConfigError
from .recipe import Recipe


__all__ = ["REFUSED", "check_options", "outcome_options"]

_LABELS = "the labels are always thought, answer and end token; see `think` and `mode`"
_NO_SPLIT = "a training has no evaluation split; run `star-hf evaluate` on the trained model"
_WHOLE = "rows are never cut; leave long ones out of the data"
_KERNELS = "set `model_init_kwargs: {use_kernels: true}`"
_QUANTISED = "adapters train on `dtype: bfloat16` weights"
_COLUMNS = "name `question` and `response` in `columns` of the data set"
_LOSS = "see `loss_average`"
_ONE_REWARD = "the reward is one number; see `form_weight`"

REFUSED: Mapping[str, str] = {
    "assistant_only_loss": _LABELS,
    "completion_only_loss": _LABELS,
    "dataset_text_field": _COLUMNS,
    "dataset_kwargs": _COLUMNS,
    "truncation_mode": _WHOLE,
    "eval_packing": _NO_SPLIT,
    "eval_strategy": _NO_SPLIT,
    "eval_on_start": _NO_SPLIT,
    "do_eval": _NO_SPLIT,
    "do_predict": _NO_SPLIT,
    "load_best_model_at_end": _NO_SPLIT,
    "use_liger_kernel": _KERNELS,
    "liger_kernel_config": _KERNELS,
    "label_smoothing_factor": _LOSS,
    "load_in_4bit": _QUANTISED,
    "load_in_8bit": _QUANTISED,
    "num_generations_eval": _NO_SPLIT,
    "reward_weights": _ONE_REWARD,
    "multi_objective_aggregation": _ONE_REWARD,
    "max_tool_calling_iterations": "the questions come without tools",
    "log_multimodal": "the questions come without pictures",
    "lora_task_type": "the models here are causal language models",
}
"""Options with which a training would fail late, or do something else than what they say."""

HARMLESS = """
    output_dir run_name project report_to disable_tqdm push_to_hub resume_from_checkpoint local_rank debug tf32
    restore_callback_states_from_checkpoint torch_empty_cache_steps use_cpu skip_memory_metrics ddp_timeout ddp_backend
    deepspeed fsdp fsdp_config accelerator_config parallelism_config model_name_or_path model_revision save_steps
    save_strategy save_total_limit save_on_each_node save_only_model enable_jit_checkpoint metric_for_best_model
    greater_is_better include_num_input_tokens_seen gradient_checkpointing gradient_checkpointing_kwargs use_peft
    activation_offloading dataset_num_proc chat_template_path train_split
""".split()
"""Options that do not change what is learnt, or that a record has in another place."""
_HARMLESS = re.compile("log_|logging_|hub_|trackio_|dataloader_|eval_|per_device_eval|vllm_server|vllm_group|_")
SHOWN = """
    num_train_epochs per_device_train_batch_size gradient_accumulation_steps learning_rate lr_scheduler_type
    warmup_steps weight_decay adam_beta1 adam_beta2 max_grad_norm bf16 padding_free packing max_length beta loss_type
    label_smoothing num_generations max_completion_length temperature scale_rewards seed dtype
""".split()
"""TRL's options that a record always has, where the trainer has them."""


def outcome_options(recipe: Recipe) -> dict[str, Any]:
    """The options that change what is learnt, as JSON values: all of ours, those of TRL that are not its defaults, and
    those in [`SHOWN`]."""
    found: dict[str, Any] = {"lora": recipe.model.use_peft}
    for part in (recipe.star, recipe.training, recipe.model):
        for entry in fields(part):
            name, value = entry.name, getattr(part, entry.name)
            shown = part is recipe.star or name in SHOWN or not _same(value, _default(entry))
            adapter = name.startswith("lora_") and not recipe.model.use_peft
            if shown and not adapter and name not in HARMLESS and not _HARMLESS.match(name):
                found[name] = json.loads(json.dumps(getattr(value, "value", value), default=str))
    if recipe.model.use_peft:
        found |= {name: getattr(recipe.model, name) for name in ("lora_r", "lora_alpha", "lora_dropout")}
    return found


def check_options(recipe: Recipe) -> None:
    """Refuse options of a recipe that cannot be honoured. TRL's defaults are always accepted.

    Raises:
        [`ConfigError`]: With every such option and its reason.
    """
    wrong = []
    for part in (recipe.training, recipe.model):
        for entry in fields(part):
            if entry.name in REFUSED and not _same(getattr(part, entry.name), _default(entry)):
                wrong.append(f"`{entry.name}`: {REFUSED[entry.name]}")
    if wrong:
        raise ConfigError(f"The recipe has options that star_hf cannot honour. {'; '.join(wrong)}.", "Remove them.")


def _default(entry: Field) -> Any:
    return entry.default if entry.default_factory is MISSING else entry.default_factory()


def _same(value: Any, default: Any) -> bool:
    """Whether an option is as TRL has it: enumerations count as their values."""
    return getattr(value, "value", value) == getattr(default, "value", default)
