"""Options and records from files, checked by pydantic, with errors that name the file, the field and the remedy."""

import dataclasses
import difflib
import re
import reprlib
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ..errors import ConfigError, StarError


__all__ = ["Strict", "UniqueKeys", "pair", "read_yaml", "validated"]

Form = TypeVar("Form")


class _Told(type(BaseModel)):  # type: ignore[misc]
    """Makes wrong options given in Python a [`ConfigError`], as those in a file are. pydantic itself, which makes the
    parts of a model, does not come by here, so that an error names the whole path of an option."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)
        except ValidationError as problems:
            raise _error(cls, problems, cls.__name__) from None


class Strict(BaseModel, metaclass=_Told):
    """Options that cannot be changed later. Unknown options are refused, with a [`ConfigError`]."""

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


MOST_BYTES, MOST_VALUES, MOST_LEVELS = 1_000_000, 20_000, 40
"""Limits of a YAML file; aliases count as often as they are used."""

MOST_PROBLEMS = 20
"""Wrong values of a file that are told."""


def pair(item: str) -> tuple[str, str]:
    """The name and the value of `NAME=VALUE`, as options of the command line have it; else a [`ConfigError`]."""
    name, equals, value = item.partition("=")
    if not (name and equals and value):
        raise ConfigError(f"Invalid option {item!r}: must be NAME=VALUE.", "For example: --column question=prompt")
    return name, value


def read_yaml(
    path: str | Path,
    remedy: str | None = None,
    error: type[StarError] = ConfigError,
    loader: Any = _Loader,
    larger: int = 1,
) -> dict[str, Any]:
    """The options in a YAML file; an empty file has none. A file may be `larger` times the usual limits.

    Raises:
        [`ConfigError`]: Or another class, `error`: if the file cannot be read, is not YAML, or does not hold
            `key: value` lines.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(larger * MOST_BYTES + 1)
    except (OSError, ValueError) as problem:
        raise error(f"{path}: {getattr(problem, 'strerror', problem)}.", remedy) from None
    try:
        data = _load(content, loader, larger)
    except RecursionError:
        raise error(f"{path} is not valid YAML: it is nested too deeply.", remedy) from None
    except Exception as problem:  # PyYAML's constructors raise errors of many classes
        said = " ".join(str(problem).split()) or type(problem).__name__
        raise error(f"{path} is not valid YAML: {said[:300]}", remedy) from None
    if data is None or data == "":
        return {}
    if not isinstance(data, dict):
        raise error(f"{path} holds a {type(data).__name__}, expected `key: value` lines.", remedy)
    return data


def _load(content: bytes, loader: Any, larger: int) -> Any:
    if len(content) > larger * MOST_BYTES:
        raise yaml.YAMLError(f"it is larger than {larger * MOST_BYTES:,} bytes")
    parser = loader(content.decode("utf-8-sig"))
    try:
        node = parser.get_single_node()
        if node is None:
            return None
        _measure(node, {}, (), larger * MOST_VALUES)
        return parser.construct_document(node)
    finally:
        parser.dispose()


def _measure(
    node: yaml.Node, known: dict[yaml.Node, tuple[int, int]], above: tuple[yaml.Node, ...], most: int
) -> tuple[int, int]:
    """Values and levels in a node, each alias as what it stands for; `above` are the nodes around it."""
    if node in above:
        raise yaml.YAMLError("a value contains itself")
    if isinstance(node, yaml.ScalarNode) and re.search("[\0\ud800-\udfff]", node.value):
        raise yaml.YAMLError(f"line {node.start_mark.line + 1}: a zero byte or half a character in a text")
    if node not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = [part for item in parts for part in (item if isinstance(item, tuple) else (item,))]
        sizes = [_measure(part, known, (*above, node), most) for part in inner]
        known[node] = (1 + sum(values for values, _ in sizes), 1 + max((levels for _, levels in sizes), default=0))
    values, levels = known[node]
    if values > most:
        raise yaml.YAMLError(f"it holds more than {most:,} values")
    if levels > MOST_LEVELS:
        raise yaml.YAMLError(f"it is nested more than {MOST_LEVELS} levels deep")
    return known[node]


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
        raise _error(form, problems, where, remedy, error) from None


def _error(
    form: Any,
    problems: ValidationError,
    where: str | Path,
    remedy: str | None = None,
    error: type[StarError] = ConfigError,
) -> StarError:
    """One line for each problem."""
    found = problems.errors()
    lines = [f"{where}: {_explain(form, problem)}" for problem in found[:MOST_PROBLEMS]]
    rest = [f"{where}: {len(found) - MOST_PROBLEMS:,} more."] if len(found) > MOST_PROBLEMS else []
    return error("\n".join([*lines, *rest]), remedy)


_adapter = lru_cache(maxsize=64)(TypeAdapter)


def _explain(form: type, problem: Any) -> str:
    where = ".".join(str(step) for step in problem["loc"])[:200] or "the options"
    if problem["type"] == "missing":
        return f"`{where}` is missing."
    if problem["type"] == "value_error":  # our own words
        return f"`{where}`: {problem['msg'][:500]}."
    if problem["type"] not in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"`{where}`: {problem['msg']} (got {reprlib.repr(problem['input']):.80})."
    known = _options(form, problem["loc"][:-1])
    close = difflib.get_close_matches(str(problem["loc"][-1])[:100], known, 1)
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
