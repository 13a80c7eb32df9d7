"""Cards: generated sections that a person may edit around, and what becomes of such edits when a card is made anew.

A generated section stands between two comments, the first of which carries a hash of what was generated:

```
<!-- star_hf: funnel 8c1f0a93d2e4b576 -->
...
<!-- /star_hf: funnel -->
```

Whatever stands outside belongs to people and is kept. A section whose text no longer has its hash was edited by hand:
it is kept, too, and reported.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...errors import StarError


__all__ = ["Card", "Merged", "Parsed", "merge", "parse", "render"]

METADATA = re.compile(r"\A\s*---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*\r?\n?", re.S | re.M)
SECTION = re.compile(
    r"<!-- star_hf: (?P<name>[\w-]+) (?P<hash>[0-9a-f]{16}) -->\n(?P<text>.*?)<!-- /star_hf: (?P=name) -->\n?", re.S
)
MARK = re.compile(r"<!-- /?star_hf: [^>]*-->")


@dataclass(frozen=True)
class Card:
    """A card as it is generated.

    Attributes:
        metadata (`dict`): What the Hub reads.
        sections (`dict[str, str]`): Markdown by name, in the card's order.
    """

    metadata: dict[str, Any]
    sections: dict[str, str]

    @property
    def text(self) -> str:
        """The card that nobody has edited."""
        return _document(self.metadata, "\n".join(_marked(name, text) for name, text in self.sections.items()))

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each section."""
        return {name: _hash(text) for name, text in self.sections.items()}


@dataclass(frozen=True)
class Parsed:
    """A card as it lies in a repository.

    Attributes:
        metadata (`dict`): What the Hub reads.
        body (`str`): Everything below it.
        sections (`dict[str, str]`): Text of each generated section.
        hashes (`dict[str, str]`): Of each, the hash of what was generated.
        edited (`tuple[str, ...]`): Those whose text is not the generated one.
    """

    metadata: dict[str, Any]
    body: str
    sections: dict[str, str]
    hashes: dict[str, str]
    edited: tuple[str, ...]


@dataclass(frozen=True)
class Merged:
    """A card made anew, with what people had changed.

    Attributes:
        text (`str`): The whole card.
        metadata (`dict`): Its metadata.
        kept (`tuple[str, ...]`): What people changed in the generated part, and is kept: sections by name, fields of
            the metadata as `metadata.<name>`.
    """

    text: str
    metadata: dict[str, Any] = field(repr=False)
    kept: tuple[str, ...] = ()


def render(template: str, **variables: Any) -> dict[str, str]:
    """The blocks of a template of this folder, each as one section; an empty one is left out.

    Values are inserted as they are; `| cell` makes a value safe within a table and within HTML.
    """
    loaded = _environment().get_template(template)
    context = loaded.new_context(variables)
    texts = {name: "".join(block(context)).strip() for name, block in loaded.blocks.items()}
    return {name: f"{text}\n" for name, text in texts.items() if text}


def parse(text: str, where: str) -> Parsed:
    """Take a card apart.

    Args:
        text (`str`): The card.
        where (`str`): Whose it is, for the message.

    Raises:
        StarError: If its metadata is not YAML, or the comments around a generated section are broken.
    """
    text = text.replace("\r\n", "\n")
    found = METADATA.match(text)
    try:
        metadata = yaml.safe_load(found["yaml"]) if found else {}
    except yaml.YAMLError as error:
        raise _broken(where, f"its metadata is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(metadata or {}, dict):
        raise _broken(where, "its metadata is not a list of `key: value` lines")
    body = text[found.end() :] if found else text
    sections, hashes, edited = {}, {}, []
    for section in SECTION.finditer(body):
        name = section["name"]
        if name in sections:
            raise _broken(where, f"the section `{name}` stands in it twice")
        sections[name], hashes[name] = section["text"], section["hash"]
        if _hash(section["text"]) != section["hash"]:
            edited.append(name)
    if stray := MARK.search(SECTION.sub("", body)) or MARK.search("".join(sections.values())):
        raise _broken(where, f"the comment `{stray.group()}` has lost its other half")
    return Parsed(metadata or {}, body, sections, hashes, tuple(edited))


def merge(
    card: Card,
    current: str | None,
    last: Mapping[str, Any],
    where: str,
    *,
    always: Iterable[str] = (),
    overwrite: bool = False,
    partial: bool = False,
) -> Merged:
    """Bring a card up to date and keep what people changed in it.

    A section that nobody touched is replaced. One that was edited, or taken out, stays so. A field of the metadata
    that is no longer what was published last stays what it is, and so does one that somebody added.

    Args:
        card (`Card`): As it is generated now.
        current (`str` or `None`): The card in the repository.
        last (`Mapping`): What was published last: `metadata`, and `sections` with their hashes; empty if nothing was.
        where (`str`): Whose card it is, for messages.
        always (`Iterable[str]`): Fields of the metadata that follow from the files, whoever edited them.
        overwrite (`bool`, defaults to `False`): Replace edited sections and fields, and bring back what was taken out.
        partial (`bool`, defaults to `False`): Leave sections and fields alone that `card` does not have.

    Raises:
        StarError: If the card in the repository is broken; not with `overwrite` of a whole card, which is then made
            anew.
    """
    if current is None:
        return Merged(card.text, card.metadata)
    try:
        there = parse(current, where)
    except StarError:
        if overwrite and not partial:
            return Merged(card.text, card.metadata)
        raise
    fields = {name: value for name, value in there.metadata.items() if not partial or name in card.metadata}
    metadata, kept = _merge_metadata(card.metadata, fields, last.get("metadata", {}), set(always), overwrite)
    metadata = {**there.metadata, **metadata} if partial else metadata
    gone = [name for name in last.get("sections", {}) if name not in there.sections and name in card.sections]
    edited = [] if overwrite else [name for name in there.edited if not partial or name in card.sections]
    gone = [] if overwrite else gone

    def renew(found: re.Match[str]) -> str:
        name = found["name"]
        if name in edited or (partial and name not in card.sections):
            return found.group()
        return _marked(name, card.sections[name]) if name in card.sections else ""

    body = SECTION.sub(renew, there.body)
    before = None
    for name, text in card.sections.items():
        if name in there.sections or name in gone:
            before = name if name in there.sections else before
            continue
        body, before = _insert(body, _marked(name, text), after=before), name
    return Merged(_document(metadata, body), metadata, (*edited, *gone, *kept))


def _merge_metadata(
    new: Mapping[str, Any], there: Mapping[str, Any], last: Mapping[str, Any], always: set[str], overwrite: bool
) -> tuple[dict[str, Any], list[str]]:
    """Three-way: what people changed since the last time stays, the rest is what is generated."""
    merged, kept = {}, []
    for name in dict.fromkeys([*new, *there]):
        ours = name in always or overwrite or (name in there and name in last and there[name] == last[name])
        if name in new and (ours or (name not in there and name not in last)):
            merged[name] = new[name]
        elif name in there and not (name not in new and ours):
            merged[name] = there[name]
            if there[name] != new.get(name):
                kept.append(f"metadata.{name}")
        elif name in new and name not in there:
            kept.append(f"metadata.{name}")
    return merged, kept


def _insert(body: str, text: str, after: str | None) -> str:
    """Put a section after the named one, else at the end."""
    places = [found.end() for found in SECTION.finditer(body) if found["name"] == after]
    place = places[0] if places else len(body)
    head = body[:place]
    gap = "" if not head or head.endswith("\n\n") else "\n" if head.endswith("\n") else "\n\n"
    return f"{head}{gap}{text}{body[place:]}"


def _marked(name: str, text: str) -> str:
    return f"<!-- star_hf: {name} {_hash(text)} -->\n{text}<!-- /star_hf: {name} -->\n"


def _document(metadata: Mapping[str, Any], body: str) -> str:
    header = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{header}---\n{body if body.startswith(chr(10)) else chr(10) + body}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _broken(where: str, what: str) -> StarError:
    return StarError(
        f"The card of {where} is broken: {what}.",
        "Mend README.md there, or replace what was edited by hand with --overwrite-edits.",
    )


def _cell(value: object) -> str:
    """Text of others on one line, which no table, HTML or link can take for its own."""
    line = " ".join(str(value).split())
    escaped = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", escaped)


def _code(value: object) -> str:
    """Text of others as code on one line."""
    line = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{line}`" if "<!--" not in line and "-->" not in line else _cell(value)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=_cell, code=_code, number=lambda value: f"{value:,}")
    return environment
