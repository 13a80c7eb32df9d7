"""Safety policies as a YAML file of categories, each with its definition, objective, rules and responses."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from ..errors import PolicyError
from ..utils import files
from ..utils.options import UniqueKeys, read_yaml
from ..utils.text import normalise
from .rendering import Prompts


__all__ = ["KINDS", "Category", "Kind", "ResponseRule", "Taxonomy", "did_you_mean", "digest"]

STAR_8 = Path(__file__).parent / "star_8.yaml"

T = TypeVar("T")
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Items = Annotated[tuple[T, ...], Field(min_length=1)]
Kind = Literal["refuse", "safe_complete", "redirect", "comply_with_care", "comply"]

KINDS = get_args(Kind)
"""The kinds of response, from refusal to plain help."""


def digest(value: Any) -> str:
    """First 16 hex digits of the SHA-256 of a JSON value."""
    return files.digest(value)[:16]


@dataclass(frozen=True)
class ResponseRule:
    """What the policy says to do in one kind of case, and which of [`KINDS`] that is."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    when: Text
    do: Text
    kind: Annotated[Kind, BeforeValidator(lambda kind: kind.strip() if isinstance(kind, str) else kind)]


@dataclass(frozen=True)
class Category:
    """One safety category and its policy. `docs/policies.md` says what each field does."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Text
    definition: Text
    objective: Text
    rules: Items[Text]
    responses: Items[ResponseRule]


@dataclass(frozen=True)
class Taxonomy:
    """All categories of a policy file, in its order; `other` is the label of a question that fits none of them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Text
    version: Text
    language: Text
    other: Text
    categories: Items[Category]

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Taxonomy":
        """Read and check a policy file; without one, that of the eight categories of STAR-1.

        Raises:
            PolicyError: If the file cannot be read or a field is wrong; with the file, the category and the field.
        """
        path = STAR_8 if path is None else Path(path)
        remedy = "See docs/policies.md for the format; text that holds ': ' or ' #' needs quotes."
        content = read_yaml(path, remedy, PolicyError, _Loader)
        try:
            taxonomy = TypeAdapter(cls).validate_python(content)
        except ValidationError as error:
            # A misspelt field is both unknown and missing; the closest name is in the first message.
            first = min(error.errors(), key=lambda problem: problem["type"] != "unexpected_keyword_argument")
            raise _explained(first, content, path) from None
        taxonomy._check_names(path)
        return taxonomy

    def _check_names(self, path: Path) -> None:
        seen = {normalise(self.other): "the label `other`"}
        for number, category in enumerate(self.categories, start=1):
            if (name := normalise(category.name)) in seen:
                raise PolicyError(
                    f"{path}: category {number} has the name {category.name!r}, and so has {seen[name]}.",
                    "Give each category its own name; letter case and spaces do not count.",
                )
            seen[name] = f"category {number}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the categories, without `other`."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def hash(self) -> str:
        """Hash of the whole content, 16 hex digits."""
        return digest(asdict(self))

    def pick(self, names: Iterable[str]) -> tuple[Category, ...]:
        """The named categories, each once, in the taxonomy's order.

        Raises:
            PolicyError: If there is no name, or a name that is not a category of this taxonomy.
        """
        if isinstance(names, str):
            raise PolicyError(f"The categories of a row are one text, {names[:60]!r}.", "Give a list of names.")
        wanted = set(names)
        unknown = sorted(wanted.difference(self.names))
        if unknown:
            raise PolicyError(
                f"Taxonomy {self.name!r} has no policy for category {unknown[0]!r}.",
                f"{did_you_mean(unknown[0], self.names)}Its categories are: {', '.join(self.names)}. "
                "Classify the rows with this taxonomy, or use the one that they were classified with.",
            )
        if not wanted:
            raise PolicyError("A row has an empty category list, so no policy applies.", "Classify the rows first.")
        return tuple(category for category in self.categories if category.name in wanted)

    def check(self, rows: Iterable[Iterable[str]]) -> None:
        """Check that each row's categories have policies, before any request is paid for. Raises as [`pick`] does."""
        different = {names if isinstance(names, str) else tuple(names or ()) for names in rows}
        for names in sorted(different, key=str):
            self.pick(names)

    def version_of(self, names: Iterable[str]) -> str:
        """Hash of the content of the named categories, 16 hex digits.

        So an edited rule changes the request keys of only the rows that it applies to.
        """
        return _version(self.pick(names))

    def policy_text(self, names: Iterable[str], prompts: Prompts | None = None) -> str:
        """The policies of the named categories, as in a prompt."""
        return (prompts or Prompts.load()).text("policy", categories=self.pick(names))


@lru_cache(maxsize=1_024)
def _version(categories: tuple[Category, ...]) -> str:
    return digest([asdict(category) for category in categories])


class _Loader(UniqueKeys, yaml.BaseLoader):
    """Reads every scalar as text, so that `language: no` is Norwegian."""


def _explained(problem: Any, content: Any, path: Path) -> PolicyError:
    """An error of pydantic as a message with the category, the field and what was expected."""
    steps, where, form = list(problem["loc"]), str(path), Taxonomy
    if steps[:1] == ["categories"] and steps[1:]:
        category = content["categories"][steps[1]]
        name = category.get("name") if isinstance(category, Mapping) else None
        where += f": category {steps[1] + 1}" + (f" ({name.strip()!r})" if isinstance(name, str) and name else "")
        steps, form = steps[2:], Category
    if steps[:1] == ["responses"] and steps[1:]:
        where += f": responses[{steps[1] + 1}]"
        steps, form = steps[2:], ResponseRule
    field = "".join(f"[{step + 1}]" if isinstance(step, int) else step for step in steps)
    names, found = ", ".join(field.name for field in fields(form)), _show(problem["input"])
    match problem["type"]:
        case "dataclass_type":
            return PolicyError(f"{where}: expected the fields {names}, found {found}.")
        case "unexpected_keyword_argument":
            hint = f"{did_you_mean(field, names.split(', '))}Its fields are: {names}."
            return PolicyError(f"{where}: unknown field {field!r}.", hint)
        case "missing":
            return PolicyError(f"{where}: field {field!r} is missing.", f"Its fields are: {names}.")
        case "literal_error":
            expected, remedy = f"one of {', '.join(KINDS)}", did_you_mean(problem["input"], KINDS).strip() or None
        case "tuple_type" | "too_short":
            expected, remedy = "a list with at least one item", None
        case _:
            quotes = "Put text that holds ': ' or begins with a bracket in quotes."
            expected, remedy = "text", quotes if problem["input"] else None
    return PolicyError(f"{where}: field {field!r}: expected {expected}, found {found}.", remedy)


def _show(value: Any) -> str:
    return "nothing" if value in ("", [], {}) else f"{value!r:.60}"


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """A question with the closest known word, or nothing."""
    close = get_close_matches(str(word), list(known), n=1)
    return f"Did you mean {close[0]!r}? " if close else ""
