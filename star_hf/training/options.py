"""Options of TRL that a training here cannot honour: refused before anything is loaded, each with its reason."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from ..errors import ConfigError
from .recipe import Recipe


__all__ = ["REFUSED", "check_options"]

_LABELS = "the labels are always thought, answer and end token; see `think` and `mode`"
_NO_SPLIT = "a training has no evaluation split; run `star-hf evaluate` on the trained model"
_WHOLE = "rows are never cut; leave long ones out of the data"
_KERNELS = "set `model_init_kwargs: {use_kernels: true}`"
_QUANTISED = "adapters train on `dtype: bfloat16` weights"
_COLUMNS = "name `question` and `response` in `columns` of the data set"
_LOSS = "see `loss_average`"

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
    "lora_task_type": "the models here are causal language models",
}
"""Options with which a training would fail late, or do something else than what they say."""


def check_options(recipe: Recipe) -> None:
    """Refuse options of a recipe that cannot be honoured. TRL's defaults are always accepted.

    Raises:
        [`ConfigError`]: With every such option and its reason.
    """
    wrong = []
    for part in (recipe.training, recipe.model):
        for entry in fields(part):
            default = entry.default if entry.default_factory is MISSING else entry.default_factory()
            if entry.name in REFUSED and not _same(getattr(part, entry.name), default):
                wrong.append(f"`{entry.name}`: {REFUSED[entry.name]}")
    if wrong:
        raise ConfigError(f"The recipe has options that star_hf cannot honour. {'; '.join(wrong)}.", "Remove them.")


def _same(value: Any, default: Any) -> bool:
    """Whether an option is as TRL has it: enumerations count as their values."""
    return getattr(value, "value", value) == getattr(default, "value", default)
