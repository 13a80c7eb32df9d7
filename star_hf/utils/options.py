"""Options and records from files, checked by pydantic, with errors that name the file, the field and the remedy."""

import dataclasses
import difflib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import ConfigError, StarError


__all__ = ["Strict", "UniqueKeys", "read_yaml", "validated"]

Form = TypeVar("Form")


class Strict(BaseModel):
    """Options that cannot be changed later. Unknown options are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class UniqueKeys:
    """Mixin of YAML loaders that refuses a key that occurs twice, of which YAML itself silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node."""
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key.value!r}", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(UniqueKeys, yaml.SafeLoader):
    pass


def read_yaml(
    path: str | Path, remedy: str | None = None, error: type[StarError] = ConfigError, loader: Any = _Loader
) -> dict[str, Any]:
    """The options in a YAML file; an empty file has none.

    Raises:
        [`ConfigError`]: Or another class, `error`: if the file cannot be read, is not YAML, or does not hold
            `key: value` lines.
    """
    try:
        data = yaml.load(Path(path).read_text(encoding="utf-8-sig"), loader)
    except OSError as problem:
        raise error(f"{path}: {problem.strerror}.", remedy) from None
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise error(f"{path} is not valid YAML: {' '.join(str(problem).split())}", remedy) from None
    if data is None or data == "":
        return {}
    if not isinstance(data, dict):
        raise error(f"{path} holds a {type(data).__name__}, expected `key: value` lines.", remedy)
    return data


def validated(
    form: type[Form], data: Any, where: str | Path, remedy: str | None = None, error: type[StarError] = ConfigError
) -> Form:
    """Check data and make a pydantic model or a dataclass of it.

    A dataclass ignores unknown fields, unless it forbids them by `__pydantic_config__`. Errors name `where` the data
    are from, such as a file.

    Raises:
        [`ConfigError`]: Or another class, `error`: if a field is unknown, missing or has a wrong value: one line for
            each, with the closest known name. A value is quoted only where pydantic itself found it wrong, since it
            may hold a secret.
    """
    try:
        return _adapter(form).validate_python(data)
    except ValidationError as problems:
        lines = (f"{where}: {_explain(form, problem)}" for problem in problems.errors())
        raise error("\n".join(lines), remedy) from None


_adapter = lru_cache(maxsize=64)(TypeAdapter)


def _explain(form: type, problem: Any) -> str:
    where = ".".join(str(step) for step in problem["loc"]) or "the file"
    if problem["type"] == "missing":
        return f"`{where}` is missing."
    if problem["type"] == "value_error":  # our own words
        return f"`{where}`: {problem['msg']}."
    if problem["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"`{where}`: {problem['msg']} (got {problem['input']!r:.80})."
    known = _options(form, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1]), known, 1)
    return f"`{where}` is not an option." + (
        f" Did you mean `{close[0]}`?" if close else f" Options: {', '.join(known)}."
    )


def _options(form: Any, sections: tuple[str | int, ...]) -> list[str]:
    """Names of the options in a section."""
    for section in sections:
        if section in (fields := _fields(form)):  # otherwise a place in a list, or a key of a `dict`
            inside = fields[section]  # a section, `Section | None`, or a tuple or `dict` of them
            form = next((kind for kind in (inside, *get_args(inside)) if _fields(kind)), form)
    return list(_fields(form))


def _fields(form: Any) -> dict[str | int, Any]:
    """The types of a form's fields, by name; empty for what is no model or dataclass."""
    if dataclasses.is_dataclass(form):
        return {field.name: field.type for field in dataclasses.fields(form)}
    return {name: field.annotation for name, field in getattr(form, "model_fields", {}).items()}
