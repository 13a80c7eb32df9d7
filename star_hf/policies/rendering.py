"""Prompts as files: Jinja templates with blocks `system` and `user`, which become messages."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined, Template, TemplateNotFound, TemplateSyntaxError, meta
from jinja2.runtime import Context

from ..errors import PolicyError, first_line
from ..utils.files import sha256_of
from ..utils.text import join_surrogates
from .sandbox import Sandbox, limited, line_of


__all__ = ["Prompts", "fence"]

FOLDER = Path(__file__).parent / "prompts"
ROLES = ("system", "user")
REMEDY = "Compare it with the prompts in star_hf/policies/prompts/."
KEPT_TEXTS = 1_024
"""Rendered texts of an included file that are cached, one for each set of categories."""


def fence(text: str, name: str) -> str:
    """Put untrusted text between tags that it cannot close.

    The tag, such as `<question-3f2a9c1b>`, has a hash of the text that the text does not contain, so no text can close
    its fence and continue as instructions.
    """
    content = text.encode("utf-8", "surrogatepass")
    marks = (sha256_of(b"%d:" % salt + content)[:8] for salt in count())
    tag = f"{name}-{next(mark for mark in marks if mark not in text)}"
    return f"<{tag}>\n{text}\n</{tag}>"


@dataclass(frozen=True)
class Prompts:
    """A snapshot of prompt files, so that what is rendered is what is hashed.

    Attributes:
        sources (`tuple[tuple[str, str], ...]`): Name (without `.j2`) and text of each file, sorted by name.
    """

    sources: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls, folder: str | Path | None = None) -> "Prompts":
        """Read the prompts; the `.j2` files in `folder` replace those of the same name.

        Raises:
            PolicyError: If the folder or a file cannot be read, or a file does not have the name of a prompt.
        """
        sources = _read(FOLDER)
        if folder is not None:
            own = _read(Path(folder))
            unknown = sorted(own.keys() - sources.keys())
            if unknown:
                close = get_close_matches(unknown[0], sources, n=1)
                raise PolicyError(
                    f"{folder}: {unknown[0]}.j2 is not the name of a prompt.",
                    (f"Did you mean {close[0]}.j2? " if close else "") + f"The prompts are: {', '.join(sources)}.",
                )
            sources |= own
        return cls(tuple(sorted(sources.items())))

    def render(self, name: str, **variables: Any) -> list[dict[str, str]]:
        """The messages of a prompt: one for each of its blocks `system` and `user`.

        Values are inserted, never read as template text. Lone surrogates and NUL become U+FFFD, since no API accepts
        them.

        Raises:
            PolicyError: If the file has no block `user`, uses a variable that is not given, or is not valid.
        """
        template = self._template(name)
        unknown = sorted(set(template.blocks) - set(ROLES))
        if unknown or "user" not in template.blocks:
            found = f"an unknown block {unknown[0]!r}" if unknown else "no block `user`"
            raise PolicyError(f"Prompt {name}.j2 has {found}.", "A prompt has a block `user` and may have a `system`.")
        roles = [role for role in ROLES if role in template.blocks]
        return [{"role": role, "content": self._fill(name, template, role, variables)} for role in roles]

    def text(self, name: str, **variables: Any) -> str:
        """A file without blocks, such as `policy`, as text."""
        return self._fill(name, self._template(name), None, variables)

    def version(self, name: str) -> str:
        """Hash of the file and the files that it includes, 16 hex digits."""
        return _version(self, name)

    def _template(self, name: str) -> Template:
        try:
            return _environment(self).get_template(f"{name}.j2")
        except Exception as error:
            raise _error(name, error) from None

    def _fill(self, name: str, template: Template, block: str | None, variables: dict[str, Any]) -> str:
        context = template.new_context(variables)
        try:
            pieces = template.blocks[block](context) if block else template.root_render_func(context)
            return join_surrogates(limited(pieces).strip()).replace("\0", "\ufffd")
        except Exception as error:  # whatever the user's template does
            raise _error(name, error) from None


def _read(folder: Path) -> dict[str, str]:
    if not os.path.isdir(folder):
        raise PolicyError(f"There is no folder of prompts {folder}.", "Give a folder with .j2 files.")
    try:
        return {file.stem: file.read_text(encoding="utf-8-sig") for file in sorted(folder.glob("*.j2"))}
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{folder}: a prompt cannot be read: {error}.", "Save it as UTF-8 text.") from None


class _Template(Template):
    """A file. Included files cache their rendered texts, since 41,000 requests share eight policies."""

    @classmethod
    def from_code(cls, environment: Environment, *code: Any) -> Template:
        template = super().from_code(environment, *code)
        tree = environment.parse(environment.loader.get_source(environment, template.name)[0])
        if not template.blocks and not list(meta.find_referenced_templates(tree)):
            template.root_render_func = _keeping(template.root_render_func, meta.find_undeclared_variables(tree))
        return template


def _keeping(render: Callable[[Context], Iterator[str]], names: set[str]) -> Callable[[Context], Iterator[str]]:
    """Render a file once for the same values of its variables."""
    texts: dict[tuple[Any, ...], str] = {}

    def kept(context: Context) -> Iterator[str]:
        values = tuple(map(context.resolve_or_missing, names))
        try:
            text = texts.get(values)
        except TypeError:  # an unhashable value
            yield from render(context)
            return
        if text is None:
            text = "".join(render(context))
            if len(texts) < KEPT_TEXTS:
                texts[values] = text
        yield text

    return kept


class _Environment(Sandbox):
    template_class = _Template


@lru_cache(maxsize=16)
def _environment(prompts: Prompts) -> Sandbox:
    environment = _Environment(
        loader=DictLoader({f"{name}.j2": source for name, source in prompts.sources}),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fence"] = fence
    return environment


@lru_cache(maxsize=128)
def _version(prompts: Prompts, name: str) -> str:
    sources = dict(prompts.sources)
    content = "\0".join(f"{part}\0{sources[part]}" for part in sorted(_parts(prompts, name)))
    return sha256_of(content.encode())[:16]


def _parts(prompts: Prompts, name: str) -> set[str]:
    """Names of the file and of the files that it includes."""
    sources, found, open_ = dict(prompts.sources), set(), [name]
    while open_:
        if (part := open_.pop()) in found:
            continue
        found.add(part)
        try:
            tree = _environment(prompts).parse(sources[part])
        except KeyError:
            raise PolicyError(f"There is no prompt {part}.j2.", f"The prompts are: {', '.join(sources)}.") from None
        except Exception as error:
            raise _error(part, error) from None
        for file in meta.find_referenced_templates(tree):
            if file is None:
                raise PolicyError(f"Prompt {part}.j2 includes a file by a computed name.", "Write it as a string.")
            open_.append(file.removesuffix(".j2"))
    return found


def _error(name: str, error: Exception) -> PolicyError:
    file, line = f"{name}.j2", None
    if isinstance(error, TemplateSyntaxError):
        file, line = error.name or file, error.lineno
    elif (place := line_of(error)) is not None:
        file, line = place
    said = first_line(error).rstrip(".")
    if isinstance(error, RecursionError):
        said = "it is nested too deeply, or includes or calls itself"
    elif isinstance(error, TemplateNotFound):
        said = f"there is no file {said}"
    return PolicyError(f"Prompt {file}: {'' if line is None else f'line {line}: '}{said}.", REMEDY)
