"""What SFT, DPO and GRPO share: the launch, the run itself, and the record of it."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from huggingface_hub import get_token

from ... import __version__
from ...errors import ConfigError, StarError, TrainingError
from ...utils.figures import new_figure, save_figure
from ..checkpoints import check_same, hash_of_rows, hash_of_weights, is_whole, newest_whole, save_identity
from ..options import outcome_options
from ..plan import TrainingPlan
from ..preflight import Preflight
from ..recipe import Recipe
from ..record import TrainingRecord
from .parts import source


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TrainerCallback


__all__ = ["Prepared", "StarMixin", "run", "set_up", "start", "training_plan"]

logger = logging.getLogger(__name__)


class StarMixin:
    """What all our trainers do: push nothing, and say in each checkpoint what it was trained from.

    The trainer's own pushes take the whole folder: the judges' journal of answers to harmful questions, pickled
    arguments, paths of this machine. Its card names neither data nor base model.
    [`~star_hf.hub.model_release.publish_as_asked`] publishes instead.
    """

    identity: Mapping[str, Any] = {}

    def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: the finished model is published with a card from its record."""

    create_model_card = _push_from_checkpoint = push_to_hub

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.is_world_process_zero():
            save_identity(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}", self.identity)
        super()._save_checkpoint(*args, **kwargs)


@dataclass(frozen=True)
class Prepared:
    """Everything that a training needs except the weights: the rows as text, and as `encoded` for the trainer.

    `commit` is that of the model on the Hub.
    """

    tokenizer: "PreTrainedTokenizerBase"
    rows: Dataset
    encoded: Dataset
    findings: Preflight
    commit: str | None = None


def start(parse: Callable[[], Recipe], train: Callable[[Recipe], TrainingRecord]) -> Recipe:
    """Entry point of the scripts in `recipes/`: read the command line, train, and return the recipe.

    Exits with one message if the recipe or the data cannot be used.
    """
    try:
        recipe = parse()
        train(recipe)
    except StarError as error:
        sys.exit(f"error: {error}")
    return recipe


def training_plan(recipe: Recipe, processes: int | None = None, **more: Any) -> TrainingPlan:
    """How the training of a recipe will run, by default on the processes of this launch; `more` are fields of the
    plan.

    Outside a launch, weights in half precision are assumed to be sharded: [`set_up`] refuses anything else.
    """
    options, model = recipe.training, recipe.model
    planned = 3 if processes and model.dtype != "float32" and not model.use_peft else 0
    return TrainingPlan(
        processes=processes or int(os.environ.get("WORLD_SIZE", 1)),
        per_device_batch=options.per_device_train_batch_size,
        accumulation=options.gradient_accumulation_steps,
        epochs=options.num_train_epochs,
        max_updates=options.max_steps if options.max_steps > 0 else None,
        global_batch=recipe.star.global_batch,
        packing=getattr(options, "packing", False),
        shards=_shards() or planned,
        offload=os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") in ("cpu", "nvme"),
        lora=model.use_peft,
        device_gib=_device_gib(),
        **more,
    )


def set_up(recipe: Recipe) -> None:
    """Complete the options for a trainer: how weights are loaded, where to resume, and private pushes.

    Raises:
        [`TrainingError`]: If weights would stay in half precision, where small updates round away; if one process
            would split batches over several GPUs; or if there is no checkpoint to resume from.
        [`ConfigError`]: If weights are to be pushed without a token.
    """
    from transformers import set_seed

    options, model = recipe.training, recipe.model
    if model.dtype != "float32" and not (_shards() or model.use_peft):
        raise TrainingError(
            f"dtype: {model.dtype} without DeepSpeed or FSDP keeps the weights in half precision, where updates of a "
            "learning rate like 1e-5 round away.",
            "Set `dtype: float32` and keep `bf16: true`, or launch with an accelerate config that shards.",
        )
    if options.n_gpu > 1:
        raise TrainingError(
            f"One process sees {options.n_gpu} GPUs and would multiply every batch by them.",
            "Start it with `accelerate launch`, or set CUDA_VISIBLE_DEVICES to one of them.",
        )
    if options.push_to_hub:
        if not (options.hub_token or get_token()):
            raise ConfigError(
                "`push_to_hub` is set, but there is no token.", "Set HF_TOKEN, run `hf auth login`, or remove it."
            )
        if options.hub_private_repo is None:
            options.hub_private_repo = True
    if getattr(options, "chat_template_path", None) is not None:
        options.chat_template_path = None  # the tokenizer has it already; TRL would change the embeddings too
    options.resume_from_checkpoint = _checkpoint(options)
    options.model_init_kwargs = {
        **source(recipe),
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(options.model_init_kwargs or {}),
    }
    set_seed(options.seed)


def run(
    kind: type,
    recipe: Recipe,
    prepared: Prepared,
    *,
    method: str,
    datasets: list[dict[str, Any]],
    progress: "TrainerCallback | None" = None,
    **more: Any,
) -> TrainingRecord:
    """Train, and save model, tokenizer, `star_training.json` and `loss.png` into `output_dir`.

    The recipe has been [`set_up`]. `kind` is one of TRL's trainers, and `more` are its further arguments; `progress`
    replaces its own bar.
    """
    import torch
    from transformers import ProgressCallback
    from trl import get_peft_config

    options, model = recipe.training, recipe.model
    recorded = outcome_options(recipe)
    identity = {
        "data": [entry["sha256"] for entry in datasets],
        "labels": hash_of_rows(prepared.encoded),
        "base": hash_of_weights(model.model_name_or_path, prepared.commit),
        "recipe": recorded,
        "processes": options.world_size,
    }
    if options.resume_from_checkpoint:
        check_same(options.resume_from_checkpoint, identity)
    trainer = kind(
        model=model.model_name_or_path,
        args=options,
        train_dataset=prepared.encoded,
        processing_class=prepared.tokenizer,
        peft_config=get_peft_config(model),
        **more,
    )
    if (layers := getattr(recipe.star, "train_layers", None)) is not None:
        trainer.model.requires_grad_(False)
        trainer.model.get_decoder().layers[-layers:].requires_grad_(True)
    trainer.identity = identity
    trainer.accelerator.print(prepared.findings.summary)
    if progress is not None:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(progress)
    started = time.monotonic()
    with torch.enable_grad():  # importing lighteval switches gradients off for the whole process
        trainer.train(resume_from_checkpoint=options.resume_from_checkpoint)
    trainer.save_model(options.output_dir)
    record = TrainingRecord(
        star_hf=__version__,
        base_model={"name": model.model_name_or_path, "revision": model.model_revision},
        method=method,
        mode=getattr(recipe.star, "mode", "recommended"),
        datasets=datasets,
        recipe=recorded,
        preflight=asdict(prepared.findings),
        log_history=trainer.state.log_history,
        hardware={
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "processes": options.world_size,
        },
        seconds=time.monotonic() - started,
        versions={name: version(name) for name in ("torch", "transformers", "trl", "accelerate", "datasets")},
    )
    if trainer.accelerator.is_main_process:
        record.save(options.output_dir)
        _draw_curve(record, Path(options.output_dir) / "loss.png")
    return record


def _draw_curve(record: TrainingRecord, path: Path) -> None:
    """Draw the loss or the reward; without matplotlib (extra `report`) there is no picture."""
    try:
        figure = new_figure(figsize=(6, 3.5), dpi=150)
    except ConfigError as error:
        logger.info("No picture of the training: %s", error.message)
        return
    axes = figure.add_subplot()
    steps, values = zip(*record.curve, strict=True) if record.curve else ((), ())
    axes.plot(steps, values, marker="o", markersize=3)
    title = f"{Path(record.base_model['name']).name}, {record.method.upper()}, {record.mode}"
    axes.set(xlabel="update", ylabel=record.measure, title=title)
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def _checkpoint(options: Any) -> str | None:
    """The checkpoint to resume from: a folder, or for `true` the last whole one of `output_dir`."""
    asked, output = options.resume_from_checkpoint, options.output_dir
    word = str(asked).lower()  # "true" is a string on the command line
    if word in ("none", "false"):
        return None
    if word == "true":
        folder, broken = newest_whole(output)
        for path in broken:
            logger.warning("%s was not saved to its end and is left out.", path)
    else:
        folder, broken = (Path(asked), []) if is_whole(asked) else (None, [])
    if folder is None:
        raise TrainingError(
            f"There is no whole checkpoint in {output if word == 'true' else asked} to resume from.",
            "Remove `resume_from_checkpoint`, or name a folder `checkpoint-N` of a training.",
        )
    return str(folder)


def _shards() -> int:
    """What this launch shares among its processes, as in DeepSpeed's stages: 0 for nothing, 3 for all (like FSDP)."""
    from accelerate.utils import parse_flag_from_env

    if parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        return int(stage) if stage.isdecimal() else 3
    return 3 if parse_flag_from_env("ACCELERATE_USE_FSDP") else 0


def _device_gib() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
