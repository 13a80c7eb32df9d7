"""Supervised fine-tuning with TRL: the entry that `recipes/sft.py` calls under `accelerate launch`."""

import hashlib
import logging
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from datasets import Dataset, DatasetDict

from .. import __version__
from ..errors import ConfigError, TrainingError
from .preflight import Plan, Preflight, preflight, renamed
from .record import TrainingRecord
from .tokenise import Encoder, Masking, tokenise


if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase, TrainerCallback


__all__ = ["Arguments", "Prepared", "StarArguments", "digest", "load_rows", "main", "parse", "prepare", "train"]

logger = logging.getLogger(__name__)


@dataclass
class StarArguments:
    """What a recipe says beside TRL's own options.

    Args:
        mode (`str`, defaults to `"recommended"`): `"paper"` reproduces the published script's labels and loss.
        think (`bool`, defaults to `True`): `False` trains on answers alone (paper, Section 4.2, "w/o think").
        loss_average (`str`, *optional*): `"token"` (mean over label tokens, TRL's) or `"example"` (mean over examples,
            the published script's); by the mode where it is not given.
        global_batch (`int`, *optional*): Examples per update that the recipe stands for; another number is refused.
        train_split (`str`, defaults to `"train"`): Split of the data set that is trained on.
        max_rows (`int`, *optional*): Train on the first rows only.
    """

    mode: str = field(default="recommended", metadata={"choices": ["paper", "recommended"]})
    think: bool = True
    loss_average: str | None = field(default=None, metadata={"choices": ["token", "example"]})
    global_batch: int | None = None
    train_split: str = "train"
    max_rows: int | None = None

    @property
    def average(self) -> str:
        """What the loss is averaged over."""
        return self.loss_average or ("example" if self.mode == "paper" else "token")


@dataclass
class Arguments:
    """A recipe, parsed: ours, and TRL's `SFTConfig`, `ModelConfig` and `DatasetMixtureConfig`."""

    star: StarArguments
    training: Any
    model: Any
    data: Any


def parse(arguments: Sequence[str] | None = None) -> Arguments:
    """Read a recipe (`--config`) and the options that replace its lines.

    Args:
        arguments (`Sequence[str]`, *optional*): As on the command line, which they default to.

    Raises:
        ConfigError: If the recipe cannot be read or has an option that is not one; a renamed one is named anew.
    """
    import torch
    from trl import DatasetMixtureConfig, ModelConfig, SFTConfig, TrlParser

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--config" in arguments[:-1]:
        recipe = Path(arguments[arguments.index("--config") + 1])
        try:
            options = yaml.safe_load(recipe.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{recipe} cannot be read: {error}.", "Name a recipe of recipes/.") from None
        if old := renamed(options):
            raise ConfigError(f"{recipe} has options that TRL no longer knows: {'; '.join(old)}.")
    if "--use_cpu" not in arguments and not torch.accelerator.is_available():
        arguments += ["--use_cpu", "true"]  # else a recipe for a GPU is refused before anything can be checked
    parser = TrlParser((StarArguments, SFTConfig, ModelConfig, DatasetMixtureConfig))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`gradient_checkpointing`", FutureWarning)  # TRL's own default
            return Arguments(*parser.parse_args_and_config(arguments))
    except ValueError as error:
        raise ConfigError(f"The recipe cannot be used: {error}") from None


@dataclass(frozen=True)
class Prepared:
    """All that a training needs but the weights."""

    tokenizer: "PreTrainedTokenizerBase"
    config: "PretrainedConfig"
    rows: Dataset
    encoded: Dataset
    findings: Preflight


def prepare(arguments: Arguments, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration and data, tokenise, and run the pre-flight check. Loads no weights.

    Args:
        arguments (`Arguments`): The recipe.
        processes (`int`, *optional*): Processes of the training; those of this launch by default.

    Raises:
        TrainingError: If the chat template or a row cannot be trained on.
        ConfigError: If the recipe names no model or no data set.
    """
    from transformers import AutoConfig, AutoTokenizer

    star, options, model = arguments.star, arguments.training, arguments.model
    if not model.model_name_or_path:
        raise ConfigError("The recipe names no model.", "Set `model_name_or_path`.")
    place = {"revision": model.model_revision, "trust_remote_code": options.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(model.model_name_or_path, **place)
    config = AutoConfig.from_pretrained(model.model_name_or_path, **place)
    rows = load_rows(arguments)
    encoder = Encoder(tokenizer, Masking.of(star.mode, star.think, config.model_type))
    encoded = tokenise(rows, encoder)
    plan = Plan(
        processes=processes or int(os.environ.get("WORLD_SIZE", 1)),
        per_device_batch=options.per_device_train_batch_size,
        accumulation=options.gradient_accumulation_steps,
        epochs=options.num_train_epochs,
        global_batch=star.global_batch,
        max_length=options.max_length,
        sharded=_is_sharded(),
        lora=model.use_peft,
        device_gib=_device_gib(),
    )
    return Prepared(tokenizer, config, rows, encoded, preflight(encoded, rows[0]["question"], encoder, plan, config))


def train(arguments: Arguments, progress: "TrainerCallback | None" = None) -> TrainingRecord:
    """Check, train, and save model, tokenizer, `star_training.json` and `loss.png` into `output_dir`.

    Args:
        arguments (`Arguments`): The recipe.
        progress (`TrainerCallback`, *optional*): Shows how far it is, in place of the trainer's own lines.

    Returns:
        `TrainingRecord`: What was done, as it was saved.

    Raises:
        TrainingError: If the pre-flight check refuses; nothing was trained then.
    """
    import torch
    from transformers import ProgressCallback, set_seed
    from trl import get_peft_config

    from .loss import ExampleMeanTrainer, StarTrainer

    star, options, model = arguments.star, arguments.training, arguments.model
    prepared = prepare(arguments)
    prepared.findings.check()
    if options.push_to_hub and options.hub_private_repo is None:
        options.hub_private_repo = True
    if model.dtype in ("bfloat16", "float16") and not (_is_sharded() or model.use_peft):
        raise TrainingError(
            f"dtype: {model.dtype} without DeepSpeed or FSDP keeps the weights in half precision, where updates of a "
            "learning rate like 1e-5 round away.",
            "Set `dtype: float32` and keep `bf16: true`, or launch with an accelerate config that shards.",
        )
    options.model_init_kwargs = {
        "revision": model.model_revision,
        "trust_remote_code": options.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        **(options.model_init_kwargs or {}),
    }
    started = time.monotonic()
    set_seed(options.seed)
    trainer = (ExampleMeanTrainer if star.average == "example" else StarTrainer)(
        model=model.model_name_or_path,
        args=options,
        train_dataset=prepared.encoded.remove_columns("aligned"),
        processing_class=prepared.tokenizer,
        peft_config=get_peft_config(model),
    )
    if progress is not None:
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(progress)
    findings = prepared.findings
    trainer.accelerator.print(f"first label tokens: {findings.first_labels!r} ... {findings.last_labels!r}")
    with torch.enable_grad():  # lighteval, once imported, switches gradients off for the whole process
        trainer.train(resume_from_checkpoint=options.resume_from_checkpoint)
    trainer.save_model(options.output_dir)
    record = TrainingRecord(
        star_hf=__version__,
        base_model={"name": model.model_name_or_path, "revision": model.model_revision},
        method="sft",
        mode=star.mode,
        datasets=[
            {"path": entry.path, "name": entry.name, "split": entry.split, "sha256": digest(prepared.rows)}
            | {"rows": len(prepared.rows) if len(arguments.data.datasets) == 1 else None}
            for entry in arguments.data.datasets
        ],
        recipe={**asdict(star), **_given(options), "dtype": model.dtype, "lora": model.use_peft},
        preflight=findings.to_dict(),
        log_history=trainer.state.log_history,
        hardware={"device": _device(), "processes": options.world_size},
        seconds=time.monotonic() - started,
        versions={name: version(name) for name in ("torch", "transformers", "trl", "accelerate", "datasets")},
    )
    if trainer.accelerator.is_main_process:
        record.save(options.output_dir)
        draw_losses(record, Path(options.output_dir) / "loss.png")
    return record


def draw_losses(record: TrainingRecord, path: Path) -> None:
    """The loss curve as a picture; without matplotlib (extra `report`) there is none."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        logger.info("matplotlib is not installed: no picture of the loss")
        return
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.add_subplot()
    steps, losses = zip(*record.losses, strict=True) if record.losses else ((), ())
    axes.plot(steps, losses, marker="o", markersize=3)
    axes.set(xlabel="update", ylabel="loss", title=f"{Path(record.base_model['name']).name}, {record.mode}")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def main() -> Arguments:
    """Entry of `recipes/sft.py`: train, and answer with what."""
    try:
        arguments = parse()
        train(arguments)
    except (ConfigError, TrainingError) as error:
        sys.exit(f"error: {error}")
    return arguments


def load_rows(arguments: Arguments) -> Dataset:
    """The rows of all data sets of the recipe, with `question` and `response`.

    Raises:
        ConfigError: If the recipe names none.
        TrainingError: If a column is missing.
    """
    from trl import get_dataset

    if not arguments.data.datasets:
        raise ConfigError("The recipe names no data set.", "Set `datasets: [{path: UCSC-VLAA/STAR-1}]`.")
    loaded: DatasetDict = get_dataset(arguments.data)
    rows = loaded[arguments.star.train_split]
    if missing := {"question", "response"} - set(rows.column_names):
        raise TrainingError(
            f"The data have no column {', '.join(sorted(missing))}; they have {', '.join(rows.column_names)}.",
            "Rename the columns to STAR-1's, or build the data with `star-hf build`.",
        )
    return rows if arguments.star.max_rows is None else rows.select(range(min(arguments.star.max_rows, len(rows))))


def digest(rows: Dataset) -> str:
    """SHA-256 of all questions and responses, in their order."""
    sha = hashlib.sha256()
    for row in rows.select_columns(["question", "response"]):
        for text in row.values():
            sha.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return sha.hexdigest()


def _given(options: Any) -> dict[str, Any]:
    """The training options that the paper's recipe is made of."""
    names = (
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
        "seed",
    )
    return {name: getattr(options, name) for name in names}


def _is_sharded() -> bool:
    flags = ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_FSDP")
    return any(os.environ.get(flag, "").lower() in ("true", "1") for flag in flags)


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _device_gib() -> float | None:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else None
