"""Options from YAML files, checked by pydantic, with errors that name the file, the option and the remedy."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import ConfigError


__all__ = ["Strict", "read_yaml", "validated"]

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """Options that cannot be changed later, and none that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_yaml(path: str | Path, remedy: str | None = None) -> dict[str, Any]:
    """The options in a YAML file; an empty file has none.

    Args:
        path (`str` or `Path`): The file.
        remedy (`str`, *optional*): What to do where there is no such file.

    Raises:
        [`ConfigError`]: If the file cannot be read, is not YAML, or does not hold `key: value` lines.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", remedy) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}", remedy) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds a {type(data).__name__}, expected `key: value` lines.", remedy)
    return data


def validated(model: type[Model], data: Mapping[str, Any], where: str | Path, remedy: str | None = None) -> Model:
    """Make a pydantic model of options.

    Args:
        model (`type`): A pydantic model.
        data (`Mapping`): The options.
        where (`str` or `Path`): What the error names, such as the file.
        remedy (`str`, *optional*): What to do where an option is wrong.

    Raises:
        [`ConfigError`]: If an option is unknown or has a wrong value: one line for each, with the closest known name.
            A value is quoted only where pydantic itself found it wrong, since it may hold a secret.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = (f"{where}: {_explain(model, problem)}" for problem in error.errors())
        raise ConfigError("\n".join(lines), remedy) from None


def _explain(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(step) for step in problem["loc"]) or "the file"
    if problem["type"] == "value_error":  # our own words
        return f"`{where}`: {problem['msg']}."
    if problem["type"] != "extra_forbidden":
        return f"`{where}`: {problem['msg']} (got {problem['input']!r:.80})."
    known = _options(model, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
    return f"`{where}` is not an option." + (
        f" Did you mean `{close[0]}`?" if close else f" Options: {', '.join(known)}."
    )


def _options(model: Any, sections: tuple[str | int, ...]) -> list[str]:
    """Names of the options in a section."""
    for section in sections:
        if section not in model.model_fields:  # a place in a list, or a key of a `dict`
            continue
        inside = model.model_fields[section].annotation  # a section, `Section | None`, or a tuple or `dict` of them
        model = next((kind for kind in (inside, *get_args(inside)) if hasattr(kind, "model_fields")), model)
    return list(model.model_fields)
