"""What a recipe's model has beside its weights: tokenizer, configuration, chat template, stop tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...utils.network import NETWORK_ERRORS
from ..chat.tokenise import ChatEncoder, Masking
from ..options import check_options
from ..recipe import Recipe


if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


__all__ = ["chat_encoder", "load_parts", "source"]


def load_parts(recipe: Recipe) -> tuple["PreTrainedTokenizerBase", "PretrainedConfig"]:
    """The tokenizer and the configuration of a recipe's model.

    Raises:
        [`ConfigError`]: If the recipe names no model, its files are missing or incomplete, or an option cannot be
            honoured.
    """
    from transformers import AutoConfig, AutoTokenizer

    check_options(recipe)
    name, where = recipe.model.model_name_or_path, source(recipe)
    if not name:
        raise ConfigError("The recipe names no model.", "Set `model_name_or_path`.")
    try:
        tokenizer, config = AutoTokenizer.from_pretrained(name, **where), AutoConfig.from_pretrained(name, **where)
    except (*NETWORK_ERRORS, ValueError) as error:
        raise ConfigError(
            f"The model {name} cannot be loaded: {error}",
            "Name a model of the Hub, or a folder with a complete one: merge adapters into their base model first.",
        ) from None
    if (token := getattr(recipe.training, "eos_token", None)) is not None:
        if token not in tokenizer.get_vocab():
            raise ConfigError(f"`eos_token` is {token!r}, which is not a token of {name}.", "Name one of its tokens.")
        tokenizer.eos_token = token
    if (path := _template_option(recipe, "chat_template_path")) is not None:
        tokenizer.chat_template = _template(str(path))
    return tokenizer, config


def chat_encoder(
    recipe: Recipe,
    tokenizer: "PreTrainedTokenizerBase",
    config: "PretrainedConfig",
    masking: Masking | None = None,
) -> ChatEncoder:
    """The encoder of a recipe's rows: with its `chat_template_kwargs`, and the stop tokens of the model.

    The stop tokens are those of `generation_config.json`, or of the configuration where there is no such file.
    """
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(recipe.model.model_name_or_path, **source(recipe)).eos_token_id
    except NETWORK_ERRORS:
        ends = getattr(config.get_text_config(), "eos_token_id", None)
    stops = [] if ends is None else [ends] if isinstance(ends, int) else ends
    return ChatEncoder(tokenizer, masking, _template_option(recipe, "chat_template_kwargs"), stops)


def _template_option(recipe: Recipe, name: str) -> Any:
    """An option of the chat template: ours, or TRL's where its trainer has one of the same name."""
    return getattr(recipe.star, name, None) or getattr(recipe.training, name, None)


def _template(path: str) -> str:
    """The chat template in a file, or that of another model's tokenizer."""
    from transformers import AutoTokenizer

    try:
        if path.endswith((".jinja", ".j2")):
            return Path(path).read_text(encoding="utf-8")
        return AutoTokenizer.from_pretrained(path).get_chat_template()
    except (*NETWORK_ERRORS, ValueError) as error:
        raise ConfigError(
            f"`chat_template_path` is {path}, which has no chat template: {error}",
            "Name a .jinja file, or a model whose tokenizer has a template.",
        ) from None


def source(recipe: Recipe) -> dict[str, Any]:
    """Where tokenizer, configuration and weights are loaded from, beside the model's name."""
    return {"revision": recipe.model.model_revision, "trust_remote_code": recipe.training.trust_remote_code}
