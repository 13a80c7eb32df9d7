"""What all trainings share: how the weights are loaded, the run itself, and what it leaves behind."""

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import get_token

from ... import __version__
from ...errors import ConfigError, StarError, TrainingError
from ..plan import Plan
from ..recipe import Arguments
from ..record import TrainingRecord


if TYPE_CHECKING:
    from transformers import Trainer, TrainerCallback


__all__ = ["Unpublished", "draw_curve", "model_place", "plan", "run", "set_up", "start"]

logger = logging.getLogger(__name__)


class Unpublished:
    """A trainer that leaves the Hub to [`~star_hf.hub.model_release.publish_as_asked`].

    Its own pushes take the whole folder, with whatever lies there: the judges' journal of answers to harmful
    questions, pickled arguments, places of this machine. Its card names neither data nor base model.
    """

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the card is written from the record."""

    def push_to_hub(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the finished model is published with its card."""

    def _push_from_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Nothing, as `push_to_hub`."""


def start(parse: Callable[[], Arguments], train: Callable[[Arguments], TrainingRecord]) -> Arguments:
    """Entry of the scripts in `recipes/`: read the command line, train, and answer with what was read.

    Ends the program with one message where the training cannot be.
    """
    try:
        arguments = parse()
        train(arguments)
    except StarError as error:
        sys.exit(f"error: {error}")
    return arguments


def model_place(arguments: Arguments) -> dict[str, Any]:
    """Where a tokenizer, a configuration and weights are loaded from, beside the model's name."""
    return {"revision": arguments.model.model_revision, "trust_remote_code": arguments.training.trust_remote_code}


def plan(arguments: Arguments, processes: int | None = None, **more: Any) -> Plan:
    """How the training of a recipe is to run, in this launch or on so many processes.

    Outside a launch half precision means that it is to be sharded: nothing else would be trained ([`set_up`]).
    """
    star, options, model = arguments.star, arguments.training, arguments.model
    planned = 3 if processes and model.dtype != "float32" and not model.use_peft else 0
    return Plan(
        processes=processes or int(os.environ.get("WORLD_SIZE", 1)),
        per_device_batch=options.per_device_train_batch_size,
        accumulation=options.gradient_accumulation_steps,
        epochs=options.num_train_epochs,
        max_updates=options.max_steps if options.max_steps > 0 else None,
        global_batch=star.global_batch,
        packing=getattr(options, "packing", False),
        shards=_shards() or planned,
        offload=os.environ.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") in ("cpu", "nvme"),
        lora=model.use_peft,
        device_gib=_device_gib(),
        **more,
    )


def set_up(arguments: Arguments) -> None:
    """Make the options ready for a trainer: private pushes, and how the weights are loaded.

    Raises:
        TrainingError: If the weights would be kept in half precision, where small updates round away; if one process
            would split batches over several GPUs; or if there is no checkpoint to go on from.
        ConfigError: If weights are to be quantised, or pushed without a token.
    """
    from transformers import set_seed

    options, model = arguments.training, arguments.model
    if model.load_in_4bit or model.load_in_8bit:
        raise ConfigError(
            "Quantised weights (`load_in_4bit`, `load_in_8bit`) are not supported.",
            "Leave them out: adapters train on `dtype: bfloat16` weights.",
        )
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
                "`push_to_hub` is set, and there is no token.", "Set HF_TOKEN or run `hf auth login`, or leave it out."
            )
        if options.hub_private_repo is None:
            options.hub_private_repo = True
    options.resume_from_checkpoint = _checkpoint(options)
    options.model_init_kwargs = {
        **model_place(arguments),
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(options.model_init_kwargs or {}),
    }
    set_seed(options.seed)


def run(
    trainer: "Trainer",
    arguments: Arguments,
    *,
    method: str,
    mode: str,
    datasets: list[dict[str, Any]],
    preflight: Mapping[str, Any],
    progress: "TrainerCallback | None" = None,
) -> TrainingRecord:
    """Train, and save the model, its tokenizer, `star_training.json` and a picture into `output_dir`.

    Args:
        trainer (`Trainer`): One of TRL's.
        arguments (`Arguments`): The recipe.
        method, mode (`str`), datasets (`list[dict]`), preflight (`dict`): As in [`TrainingRecord`].
        progress (`TrainerCallback`, *optional*): Shows how far it is, in place of the trainer's own lines.
    """
    import torch
    from transformers import ProgressCallback

    options, model = arguments.training, arguments.model
    if progress is not None:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(progress)
    started = time.monotonic()
    with torch.enable_grad():  # lighteval, once imported, switches gradients off for the whole process
        trainer.train(resume_from_checkpoint=options.resume_from_checkpoint)
    trainer.save_model(options.output_dir)
    record = TrainingRecord(
        star_hf=__version__,
        base_model={"name": model.model_name_or_path, "revision": model.model_revision},
        method=method,
        mode=mode,
        datasets=datasets,
        recipe={**asdict(arguments.star), **_given(options), "dtype": model.dtype, **_adapters(model)},
        preflight=dict(preflight),
        log_history=trainer.state.log_history,
        hardware={"device": _device(), "processes": options.world_size},
        seconds=time.monotonic() - started,
        versions={name: version(name) for name in ("torch", "transformers", "trl", "accelerate", "datasets")},
    )
    if trainer.accelerator.is_main_process:
        record.save(options.output_dir)
        draw_curve(record, Path(options.output_dir) / "loss.png")
    return record


def draw_curve(record: TrainingRecord, path: Path) -> None:
    """The loss, or what else tells of progress, as a picture; without matplotlib (extra `report`) there is none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("matplotlib is not installed: no picture of the training")
        return
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    steps, values = zip(*record.curve, strict=True) if record.curve else ((), ())
    axes.plot(steps, values, marker="o", markersize=3)
    title = f"{Path(record.base_model['name']).name}, {record.method.upper()}, {record.mode}"
    axes.set(xlabel="update", ylabel=record.measure, title=title)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


GIVEN = (
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "adam_beta1",
    "adam_beta2",
    "max_grad_norm",
    "bf16",
    "padding_free",
    "packing",
    "max_length",
    "beta",
    "loss_type",
    "label_smoothing",
    "num_generations",
    "max_completion_length",
    "temperature",
    "scale_rewards",
    "seed",
)
"""The options that make a recipe, of whichever trainer has them."""


def _adapters(model: Any) -> dict[str, Any]:
    names = ("lora_r", "lora_alpha", "lora_dropout", "lora_target_modules") if model.use_peft else ()
    return {"lora": model.use_peft, **{name: getattr(model, name) for name in names}}


def _given(options: Any) -> dict[str, Any]:
    return {name: getattr(options, name) for name in GIVEN if hasattr(options, name)}


def _checkpoint(options: Any) -> str | None:
    """The checkpoint to go on from: a folder, or the last one of `output_dir` where the option says `true`."""
    from transformers.trainer_utils import get_last_checkpoint

    asked, output = options.resume_from_checkpoint, options.output_dir
    word = str(asked).lower()  # the command line gives "true" as a string
    if word in ("none", "false"):
        return None
    folder = asked if word != "true" else get_last_checkpoint(output) if Path(output).is_dir() else None
    if folder is None or not (Path(folder) / "trainer_state.json").is_file():
        raise TrainingError(
            f"There is no checkpoint in {folder or output} to go on from.",
            "Leave out `resume_from_checkpoint`, or name a folder `checkpoint-N` that a training has left.",
        )
    return folder


def _shards() -> int:
    """What this launch spreads over its processes, as DeepSpeed's stages count it: 0 for nothing, 3 for all (FSDP)."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("true", "1"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "")
        return int(stage) if stage.isdecimal() else 3
    return 3 if os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("true", "1") else 0


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _device_gib() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
