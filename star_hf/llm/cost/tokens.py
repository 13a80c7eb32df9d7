"""Tokens of a text: counted by the model's own tokenizer if it is on this machine, else estimated."""

import hashlib
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..types import Request


__all__ = ["ESTIMATE", "TokenCounter", "prompt_tokens", "token_counter"]

TIKTOKEN_URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"


@dataclass(frozen=True)
class TokenCounter:
    """A tokenizer's name, for people, and the function that counts the tokens of a text."""

    name: str
    count: Callable[[str], int]


def _estimate(*texts: str) -> int:
    return math.ceil(sum(len(text.encode("utf-8", "replace")) for text in texts) / 4)


ESTIMATE = TokenCounter("UTF-8 bytes / 4", _estimate)
"""About right for English prose; too low for code and for most other languages."""


def prompt_tokens(request: Request) -> int:
    """An estimate of a prompt's tokens, by [`ESTIMATE`]."""
    return _estimate(*(message["content"] for message in request.messages))


def token_counter(model: str) -> TokenCounter:
    """The tokenizer of a model's name or folder, if it is in the Hub's cache, tiktoken's or the folder, else
    [`ESTIMATE`]. Downloads nothing."""
    return _from_tiktoken(model) or _from_hub(model) or ESTIMATE


def _from_tiktoken(model: str) -> TokenCounter | None:
    try:
        import tiktoken

        name = tiktoken.encoding_name_for_model(model)
    except (ImportError, KeyError):
        return None
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = folder or os.path.join(tempfile.gettempdir(), "data-gym-cache")
    # tiktoken names a file by the hash of its address, and downloads it if it is missing.
    if not Path(folder, hashlib.sha1(TIKTOKEN_URL.format(name).encode()).hexdigest()).is_file():
        return None
    encoding = tiktoken.get_encoding(name)
    return TokenCounter(f"tiktoken {name}", lambda text: len(encoding.encode_ordinary(text)))


def _from_hub(model: str) -> TokenCounter | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import HFValidationError

    try:
        from tokenizers import Tokenizer

        inside = Path(model, "tokenizer.json")
        path = inside if inside.is_file() else try_to_load_from_cache(model, "tokenizer.json")
    except (ImportError, HFValidationError):
        return None
    if not isinstance(path, str | Path):
        return None
    tokenizer = Tokenizer.from_file(str(path))
    return TokenCounter(
        f"tokenizer of {model}", lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
    )
