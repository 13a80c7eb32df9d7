"""`star-hf preflight`: check a training recipe before it costs GPU hours."""

import importlib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from ..errors import ConfigError
from ..utils.formatting import readable
from .panels import TRAINING
from .tables.layout import console


__all__ = ["app"]

METHODS = ("sft", "dpo", "grpo")
"""Kinds of training: modules of `star_hf.training.trainers`, scripts and folders of `recipes/`."""

app = typer.Typer()


@app.command(rich_help_panel=TRAINING, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def preflight(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="A training recipe, such as `recipes/<model>/sft/config_star1.yaml`.")],
    method: Annotated[
        Literal["sft", "dpo", "grpo"] | None,
        typer.Option(help="Kind of training.", show_default="the name of the recipe's folder, or sft"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="GPUs to plan for.", show_default="as many as the global batch needs")
    ] = None,
) -> None:
    """Check a training without loading weights: template, labels, BOS, EOS, lengths, batch and memory.

    Further options replace lines of the recipe, as for the scripts in `recipes/`. The exit code is 2 if the training
    would be refused.

    **Example:** `star-hf preflight --config recipes/DeepSeek-R1-Distill-Qwen-7B/sft/config_star1.yaml`
    """
    if not config.is_file():
        raise ConfigError(f"There is no recipe {config}.", "Give --config as a file, such as those in recipes/.")
    method = method or (config.parent.name if config.parent.name in METHODS else "sft")
    training = importlib.import_module(f"{__package__.rpartition('.')[0]}.training.trainers.{method}")
    recipe = training.parse(["--config", str(config), *context.args])
    if processes is None and recipe.star.global_batch:
        each = recipe.training.per_device_train_batch_size * recipe.training.gradient_accumulation_steps
        processes = max(1, recipe.star.global_batch // each)
    findings = training.prepare(recipe, processes or 1).findings
    table = Table(title=Text(f"Pre-flight check of {config}"), show_header=False)
    for name, value in asdict(findings).items():
        if name not in ("warnings", "problems"):
            table.add_row(name.replace("_", " "), Text("unknown" if value is None else readable(value)))
    console.print(table)
    for warning in findings.warnings:
        console.print(Text.assemble(("note: ", "yellow"), warning))
    findings.check()
    console.print(Text("Ready to train.", style="green"))
