"""Cards with generated sections, which keep people's edits when they are generated again.

A generated section is between two comments. The first has a hash of the generated text:

```
<!-- star_hf: funnel 8c1f0a93d2e4b576 -->
...
<!-- /star_hf: funnel -->
```

Text outside is kept. A section whose text does not match its hash was edited by hand: it is kept, too, and reported.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..errors import StarError
from ..utils.files import sha256_of
from ..utils.formatting import as_code, in_markdown


__all__ = ["Card", "MergedCard", "Parsed", "merge", "parse", "render"]

METADATA = re.compile(r"\A\s*---[ \t]*\r?\n(?P<yaml>.*?)^---[ \t]*\r?\n?", re.S | re.M)
SECTION = re.compile(
    r"<!-- star_hf: (?P<name>[\w-]+) (?P<hash>[0-9a-f]{16}) -->\n(?P<text>.*?)<!-- /star_hf: (?P=name) -->\n?", re.S
)
MARK = re.compile(r"<!-- /?star_hf: [^>]*-->")


@dataclass(frozen=True)
class Card:
    """A generated card: what the Hub reads, and the sections in Markdown, in order."""

    metadata: dict[str, Any]
    sections: dict[str, str]

    @property
    def text(self) -> str:
        """The whole card, without edits."""
        return _document(self.metadata, "\n".join(_marked(name, text) for name, text in self.sections.items()))

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of each section."""
        return {name: _hash(text) for name, text in self.sections.items()}


@dataclass(frozen=True)
class Parsed:
    """A card as it is in a repository: what the Hub reads, and everything below it.

    `hashes` are those of the generated texts; `edited` names the sections that differ from theirs.
    """

    metadata: dict[str, Any]
    body: str
    sections: dict[str, str]
    hashes: dict[str, str]
    edited: tuple[str, ...]


@dataclass(frozen=True)
class MergedCard:
    """An updated card, and in `kept` the edits of people: sections by name, fields as `metadata.<name>`."""

    text: str
    metadata: dict[str, Any] = field(repr=False)
    kept: tuple[str, ...] = ()


def render(template: str, **variables: Any) -> dict[str, str]:
    """Render the blocks of a template of this folder, each as one section; without the empty ones.

    Values are inserted unchanged; `| cell` makes a value safe in a table and in HTML.
    """
    loaded = _environment().get_template(template)
    context = loaded.new_context(variables)
    texts = {name: "".join(block(context)).strip() for name, block in loaded.blocks.items()}
    return {name: f"{text}\n" for name, text in texts.items() if text}


def parse(text: str, where: str) -> Parsed:
    """Parse a card of the repository `where`.

    Metadata that is not YAML, or a comment of a generated section without its counterpart, is a [`StarError`].
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
            raise _broken(where, f"it has the section `{name}` twice")
        sections[name], hashes[name] = section["text"], section["hash"]
        if _hash(section["text"]) != section["hash"]:
            edited.append(name)
    if stray := MARK.search(SECTION.sub("", body)) or MARK.search("".join(sections.values())):
        raise _broken(where, f"the comment `{stray.group()}` has no counterpart")
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
) -> MergedCard:
    """Update a card and keep people's edits.

    Unedited sections are replaced; edited sections stay, and removed sections stay removed. Metadata fields that were
    edited since the last release, or added, stay, except those that are `always` replaced, since they depend on the
    files.

    `current` is the card in the repository `where`, and `last` has the `metadata` and the hashes of the `sections` of
    the last release. With `overwrite` edited sections and fields are replaced, and removed ones restored; with
    `partial` sections and fields that `card` does not have are kept. A broken card is a [`StarError`], unless all of
    it is replaced.
    """
    if current is None:
        return MergedCard(card.text, card.metadata)
    try:
        there = parse(current, where)
    except StarError:
        if overwrite and not partial:
            return MergedCard(card.text, card.metadata)
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
    return MergedCard(_document(metadata, body), metadata, (*edited, *gone, *kept))


def _merge_metadata(
    new: Mapping[str, Any], there: Mapping[str, Any], last: Mapping[str, Any], always: set[str], overwrite: bool
) -> tuple[dict[str, Any], list[str]]:
    """Three-way merge: fields that were edited since the last release stay, the others are replaced."""
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
    """Insert a section after the named one, or at the end."""
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
    return sha256_of(text.encode())[:16]


def _broken(where: str, what: str) -> StarError:
    return StarError(
        f"The card of {where} is broken: {what}.",
        "Fix README.md there, or replace the edits with --overwrite-edits.",
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(cell=in_markdown, code=as_code, number=lambda value: f"{value:,}")
    return environment
