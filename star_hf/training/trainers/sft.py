"""Supervised fine-tuning with TRL."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import ConfigError
from ..chat.tokenise import Masking, Mode, conversation, tokenise
from ..data import digest, load_rows, origins
from ..preflight import preflight
from ..recipe import Recipe, RecipeArguments, parse_recipe
from ..record import TrainingRecord
from .parts import chat_encoder, load_parts
from .session import Prepared, run, set_up, training_plan


if TYPE_CHECKING:
    from transformers import TrainerCallback


__all__ = ["SFTArguments", "parse", "prepare", "train"]


@dataclass
class SFTArguments(RecipeArguments):
    """Our options of supervised fine-tuning, beside TRL's own.

    Args:
        mode (`str`, defaults to `"recommended"`): `"paper"` reproduces the published script's labels and loss.
        think (`bool`, defaults to `True`): `False` trains on answers alone (paper, Section 4.2, "w/o think").
        primer (`str`, *optional*): Rows without a response teach the model to begin its thought with this text, and
            nothing more (SafePath, arXiv:2505.14667); other rows are learnt from as usual.
        loss_average (`str`, *optional*): `"token"` (mean over label tokens, as in TRL) or `"example"` (mean over
            examples, as in the published script); the default depends on the mode.
        min_score, max_score (`int`, *optional*): Train on rows whose lowest mark is at least, or at most, this; the
            data need the column `score`.
        sources (`list[str]`, *optional*): Train on rows of these sources only; the data need the column `source`.
        train_layers (`int`, *optional*): Train only so many layers, the last ones, and nothing else: each update takes
            less time. All weights are trained by default.
    """

    mode: Mode = field(default="recommended", metadata={"choices": ["paper", "recommended"]})
    think: bool = True
    primer: str | None = None
    loss_average: str | None = field(default=None, metadata={"choices": ["token", "example"]})
    min_score: int | None = None
    max_score: int | None = None
    sources: list[str] | None = None
    chat_template_kwargs: dict | None = None
    train_layers: int | None = None

    @property
    def average(self) -> str:
        """What the loss is averaged over."""
        return self.loss_average or ("example" if self.mode == "paper" else "token")


def parse(arguments: Sequence[str] | None = None) -> Recipe:
    """Read a recipe for SFT; see [`~star_hf.training.recipe.parse_recipe`]."""
    return parse_recipe(arguments, SFTArguments, "SFTConfig")


def prepare(recipe: Recipe, processes: int | None = None) -> Prepared:
    """Load tokenizer, configuration and data, tokenise, and run the pre-flight check. Loads no weights.

    `processes` are those of this launch by default.

    Raises:
        [`TrainingError`]: If the chat template or a row cannot be used for training.
        [`ConfigError`]: If the recipe names no model or no data set, or its options exclude each other.
    """
    star = recipe.star
    tokenizer, config = load_parts(recipe)
    rows = load_rows(recipe)
    if star.primer and not star.think:
        raise ConfigError("The recipe has both a `primer`, which begins a thought, and `think: false`.", "Remove one.")
    if star.train_layers is not None:
        if recipe.model.use_peft:
            raise ConfigError("The recipe has both `train_layers` and adapters (`use_peft`).", "Remove one.")
        layers = config.get_text_config().num_hidden_layers
        if not 1 <= star.train_layers <= layers:
            raise ConfigError(
                f"`train_layers` is {star.train_layers}, but the model has {layers} layers.",
                f"Set a number from 1 to {layers}, or remove it.",
            )
    encoder = chat_encoder(
        recipe, tokenizer, config, Masking.of(star.mode, star.think, config.model_type, star.primer)
    )
    encoded = tokenise(rows, encoder)
    plan = training_plan(recipe, processes, max_length=recipe.training.max_length)
    findings = preflight(encoded, conversation(rows[0]) if len(rows) else "", encoder, plan, config)
    return Prepared(
        tokenizer,
        rows,
        encoded.select_columns(["input_ids", "labels"]),
        findings,
        getattr(config, "_commit_hash", None),
    )


def train(recipe: Recipe, progress: "TrainerCallback | None" = None) -> TrainingRecord:
    """Check, train, and save model, tokenizer, `star_training.json` and `loss.png` into `output_dir`.

    Raises:
        [`TrainingError`]: If the pre-flight check refuses; nothing was trained then.
    """
    from .loss import ExampleMeanTrainer, StarTrainer

    prepared = prepare(recipe)
    prepared.findings.check()
    if recipe.training.padding_free and not recipe.training.packing:
        recipe.training.max_length = None  # the check found no longer row, and TRL refuses a limit here
    set_up(recipe)
    return run(
        ExampleMeanTrainer if recipe.star.average == "example" else StarTrainer,
        recipe,
        prepared,
        method="sft",
        datasets=origins(recipe.data, len(prepared.rows), digest(prepared.rows)),
        progress=progress,
    )
