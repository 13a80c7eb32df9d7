"""Safety policies as data: a YAML file of categories, each with its definition, objective, rules and responses."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import PolicyError
from ..utils.text import normalise
from .rendering import Prompts


__all__ = ["KINDS", "Category", "Response", "Taxonomy", "digest"]

STAR_8 = Path(__file__).parent / "star_8.yaml"

KINDS = ("refuse", "safe_complete", "redirect", "comply_with_care", "comply")
"""What a response is, from declining to plain help."""


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Response:
    """What to do in one kind of case.

    Attributes:
        when (`str`): The case.
        do (`str`): The response that the policy asks for.
        kind (`str`): One of [`KINDS`].
    """

    when: str
    do: str
    kind: str


@dataclass(frozen=True)
class Category:
    """One safety category and its policy.

    Attributes:
        name (`str`): The label in the data.
        definition (`str`): What belongs to the category; the classifier sees only this and the name.
        objective (`str`): What the policy is for.
        rules (`tuple[str, ...]`): What is allowed and what is not; numbered from 1 in prompts.
        responses (`tuple[Response, ...]`): What to do when.
    """

    name: str
    definition: str
    objective: str
    rules: tuple[str, ...]
    responses: tuple[Response, ...]


@dataclass(frozen=True)
class Taxonomy:
    """All categories of a policy file, in its order.

    Attributes:
        name, version (`str`): What the file calls itself.
        language (`str`): BCP 47 tag of the language that the policies are written in.
        other (`str`): The label of a question that no category fits.
        categories (`tuple[Category, ...]`): At least one.
    """

    name: str
    version: str
    language: str
    other: str
    categories: tuple[Category, ...]

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Taxonomy":
        """Read and check a policy file.

        Args:
            path (`str` or `Path`, *optional*): A YAML file; the eight categories of STAR-1 when `None`.

        Raises:
            PolicyError: If the file cannot be read or breaks the format; names file, category and field.
        """
        path = STAR_8 if path is None else Path(path)
        return _taxonomy(_read_yaml(path), str(path))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The categories' names, without [`other`]."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def hash(self) -> str:
        """16 hex digits that stand for the whole content."""
        return digest(asdict(self))

    def pick(self, names: Iterable[str]) -> tuple[Category, ...]:
        """The named categories, once each, in the taxonomy's order.

        Raises:
            PolicyError: If there is no name, or a name is not a category of this taxonomy.
        """
        wanted = set(names)
        unknown = sorted(wanted.difference(self.names))
        if unknown:
            raise PolicyError(
                f"Taxonomy {self.name!r} has no policy for category {unknown[0]!r}.",
                f"{_did_you_mean(unknown[0], self.names)}Its categories are: {', '.join(self.names)}. "
                "Classify the rows with this taxonomy, or give the one that they were classified with.",
            )
        if not wanted:
            raise PolicyError("A row has an empty category list, so no policy applies.", "Classify the rows first.")
        return tuple(category for category in self.categories if category.name in wanted)

    def check(self, rows: Iterable[Iterable[str]]) -> None:
        """Make sure that each row's categories have policies, before anything is paid for.

        Args:
            rows (iterable of label lists): The column `category`.

        Raises:
            PolicyError: If a row has no category, or one that this taxonomy lacks.
        """
        for names in sorted({tuple(names) for names in rows}):
            self.pick(names)

    def version_of(self, names: Iterable[str]) -> str:
        """16 hex digits that stand for the content of the named categories alone.

        An edited clause so changes the request keys of the rows that it applies to, and of no others.
        """
        return _version(self.pick(names))

    def policy_text(self, names: Iterable[str], prompts: Prompts | None = None) -> str:
        """The named categories' policies as a model sees them."""
        return (prompts or Prompts.load()).text("policy", categories=self.pick(names))


@lru_cache(maxsize=1_024)
def _version(categories: tuple[Category, ...]) -> str:
    return digest([asdict(category) for category in categories])


class _Loader(yaml.BaseLoader):
    """Reads every scalar as text (so that `language: no` is Norwegian) and refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except OSError as error:
        remedy = "Give the path of a YAML file; docs/policies.md shows its form."
        raise PolicyError(f"Cannot read the policy file {path}: {error.strerror}.", remedy) from None
    except UnicodeDecodeError as error:
        remedy = "Save the file as UTF-8."
        raise PolicyError(f"{path} is not UTF-8 text (byte {error.start}).", remedy) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        remedy = "Correct the line, or put text that holds ': ' or ' #' in quotes."
        raise PolicyError(f"{path}{place}: not valid YAML: {error.problem}.", remedy) from None
    except yaml.YAMLError as error:
        raise PolicyError(f"{path}: not valid YAML: {' '.join(str(error).split())}.") from None


def _taxonomy(content: Any, file: str) -> Taxonomy:
    given = _fields(content, Taxonomy, file)
    categories = tuple(_category(item, file, n) for n, item in enumerate(_list(given, "categories", file), start=1))
    other = _text(given, "other", file)
    seen = {normalise(other): "the label `other`"}
    for n, category in enumerate(categories, start=1):
        name = normalise(category.name)
        if name in seen:
            raise PolicyError(
                f"{file}: category {n} has the name {category.name!r}, and so has {seen[name]}.",
                "Give each category a name of its own; letter case and spaces do not tell names apart.",
            )
        seen[name] = f"category {n}"
    return Taxonomy(
        _text(given, "name", file), _text(given, "version", file), _text(given, "language", file), other, categories
    )


def _category(content: Any, file: str, number: int) -> Category:
    named = isinstance(content, Mapping) and isinstance(content.get("name"), str) and content["name"].strip()
    where = f"{file}: category {number}" + (f" ({named!r})" if named else "")
    given = _fields(content, Category, where)
    rules = _list(given, "rules", where)
    responses = _list(given, "responses", where)
    return Category(
        _text(given, "name", where),
        _text(given, "definition", where),
        _text(given, "objective", where),
        tuple(_text({f"rules[{n}]": rule}, f"rules[{n}]", where) for n, rule in enumerate(rules, start=1)),
        tuple(_response(item, f"{where}: responses[{n}]") for n, item in enumerate(responses, start=1)),
    )


def _response(content: Any, where: str) -> Response:
    given = _fields(content, Response, where)
    kind = _text(given, "kind", where)
    if kind not in KINDS:
        raise PolicyError(
            f"{where}: field 'kind': expected one of {', '.join(KINDS)}, found {kind!r}.",
            _did_you_mean(kind, KINDS).strip() or None,
        )
    return Response(_text(given, "when", where), _text(given, "do", where), kind)


def _fields(content: Any, form: type, where: str) -> Mapping[str, Any]:
    """The mapping `content`, which must have exactly the fields of the dataclass `form`."""
    expected = tuple(field.name for field in fields(form))
    if not isinstance(content, Mapping):
        raise PolicyError(f"{where}: expected the fields {', '.join(expected)}, found {_show(content)}.")
    for key in content:
        if key not in expected:
            remedy = _did_you_mean(key, [name for name in expected if name not in content])
            raise PolicyError(f"{where}: unknown field {key!r}.", f"{remedy}Its fields are: {', '.join(expected)}.")
    for name in expected:
        if name not in content:
            raise PolicyError(f"{where}: field {name!r} is missing.", f"Its fields are: {', '.join(expected)}.")
    return content


def _text(given: Mapping[str, Any], field: str, where: str) -> str:
    value = given[field]
    if not isinstance(value, str) or not value.strip():
        remedy = "Text that holds ': ' or begins with a bracket must stand in quotes." if value else None
        raise PolicyError(f"{where}: field {field!r}: expected text, found {_show(value)}.", remedy)
    return value.strip()


def _list(given: Mapping[str, Any], field: str, where: str) -> list[Any]:
    value = given[field]
    if not isinstance(value, list) or not value:
        raise PolicyError(f"{where}: field {field!r}: expected a list with at least one item, found {_show(value)}.")
    return value


def _show(value: Any) -> str:
    if value in ("", [], {}):
        return "nothing"
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "..."


def _did_you_mean(word: Any, known: Iterable[str]) -> str:
    close = get_close_matches(str(word), list(known), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""
