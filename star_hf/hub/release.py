"""Publish a release: files, card and hashes in one commit, so that nothing is ever half-published."""

import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from .. import __version__
from ..cards.sections import Card, MergedCard, merge
from ..errors import ConfigError, IncompleteRunError
from ..utils.files import parse_json, sha256_of
from .api import KINDS, Content, Kind, ask, find, hub_api, is_same, listing, read_text, size_of


__all__ = ["CARD", "MANIFEST", "ReleasePlan", "Published", "Release", "plan", "publish"]

logger = logging.getLogger(__name__)

MANIFEST = "star_hf.json"
"""The record of what was published: hashes, counts, and the generated card."""

CARD = "README.md"
RACES = 5


@dataclass(frozen=True)
class Release:
    """What to publish.

    Attributes:
        kind (`str`): `"dataset"` or `"model"`.
        name (`str`): Name of the run, for the tag.
        files (`dict[str, Path | bytes]`): By path in the repository, without the card.
        card ([`Card`]): The generated card.
        facts (`dict`): Further facts for the published manifest, as JSON values.
        from_files (`tuple[str, ...]`): Fields of the card's metadata that depend on the files.
        warnings (`tuple[str, ...]`): What the publisher should know.
        partial (`bool`): Whether it adds to what is published already, and deletes nothing.
    """

    kind: Kind
    name: str
    files: Mapping[str, Content] = field(repr=False)
    card: Card = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False, default_factory=dict)
    from_files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    partial: bool = False

    @property
    def tag(self) -> str:
        """Name of the revision: the run's name and a hash of the content."""
        content = json.dumps([self.hashes, self.card.hashes], sort_keys=True)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", self.name).strip("-.") or "run"
        return f"{name}-{sha256_of(content.encode())[:8]}"

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file."""
        return {path: sha256_of(content) for path, content in sorted(self.files.items())}

    def manifest(self, last: Mapping[str, Any] | None = None) -> bytes:
        """The content of [`MANIFEST`], added to the last one if the release is partial."""
        before = dict(last or {}) if self.partial else {}
        card, hashes = before.get("card", {}), self.hashes
        own = {name: value for name, value in self.card.metadata.items() if name not in self.from_files}
        files = {path: {"sha256": hashes[path], "bytes": size_of(self.files[path])} for path in hashes}
        data = {
            **before,
            "star_hf": __version__,
            "kind": self.kind,
            "name": before.get("name", self.name),
            "files": {**before.get("files", {}), **files},
            "card": {
                "metadata": {**card.get("metadata", {}), **own},
                "sections": {**card.get("sections", {}), **self.card.hashes},
            },
            **self.facts,
        }
        return (json.dumps(data, indent=2, ensure_ascii=False, default=str) + "\n").encode()


@dataclass(frozen=True)
class ReleasePlan:
    """What publishing would change.

    `parent` is the commit to build on, `None` for a new repository. `add` are new and changed files, with the card and
    the manifest, and `delete` those of an earlier release that are not in this one. `card` has people's edits.
    """

    repo_id: str
    kind: Kind
    parent: str | None
    private: bool
    add: Mapping[str, Content] = field(repr=False)
    same: tuple[str, ...]
    delete: tuple[str, ...]
    card: MergedCard = field(repr=False)
    tag: str

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file to upload."""
        return {path: size_of(content) for path, content in self.add.items()}


@dataclass(frozen=True)
class Published:
    """What was published: the repository's page, the SHA of the commit, its tag, and what changed."""

    url: str
    commit: str
    tag: str
    plan: ReleasePlan


def plan(release: Release, repo_id: str, *, private: bool | None = None, overwrite_edits: bool = False) -> ReleasePlan:
    """Find out what [`publish`] with these arguments would change, without changing anything."""
    api, where = hub_api(), f"the {KINDS[release.kind]} {repo_id}"
    info = find(api, repo_id, release.kind)
    if info is None:
        _check_type(api, release.kind, repo_id)
        there, card, last = {}, None, {}
    else:
        place = (api, repo_id, release.kind, info.sha)
        there, card = listing(*place), read_text(*place, CARD)
        text = read_text(*place, MANIFEST) or "{}"
        last = parse_json(text.encode(), f"{MANIFEST} of {where}", f"Delete {MANIFEST} there and publish again.")
    merged = merge(
        release.card,
        card,
        last.get("card", {}),
        where,
        always=release.from_files,
        overwrite=overwrite_edits,
        partial=release.partial,
    )
    wanted = {**release.files, CARD: merged.text.encode(), MANIFEST: release.manifest(last)}
    old = () if release.partial else last.get("files", {})
    same = tuple(path for path, content in wanted.items() if path in there and is_same(there[path], content))
    hidden = bool(info.private) if info is not None and private is None else private is not False
    return ReleasePlan(
        repo_id=repo_id,
        kind=release.kind,
        parent=None if info is None else info.sha,
        private=hidden,
        add={path: content for path, content in wanted.items() if path not in same},
        same=same,
        delete=tuple(path for path in old if path in there and path not in wanted),
        card=merged,
        tag=release.tag,
    )


def publish(
    release: Release,
    repo_id: str,
    *,
    private: bool | None = None,
    gated: Literal["auto", "manual"] | None = None,
    collection: str | None = None,
    overwrite_edits: bool = False,
) -> Published:
    """Publish a release, or update a published one.

    Data is uploaded first; then one commit makes data, card and manifest visible together. The repository is gated
    before that commit, and made public only after it. The same call finishes an interrupted one.

    Args:
        release ([`Release`]): What to publish.
        repo_id (`str`): The repository, as `owner/name`; it is created if it does not exist.
        private (`bool`, *optional*): Whether only the owner sees it. By default a new repository is private, and an
            existing one stays as it is.
        gated (`str`, *optional*): `"auto"` or `"manual"`, to require that conditions are accepted.
        collection (`str`, *optional*): Title of the owner's collection to add it to; it is created if needed.
        overwrite_edits (`bool`, defaults to `False`): Replace people's edits in generated parts of the card.

    Raises:
        ConfigError: If there is no token with write access, or a repository of another type with this name.
        StarError: If the published card or manifest is damaged.
        IncompleteRunError: If the Hub cannot be reached, or others keep changing the repository; the same call
            continues.
    """
    api, noun = hub_api(), KINDS[release.kind]
    where = f"the {noun} {repo_id}"
    settings = {"repo_id": repo_id, "repo_type": release.kind}
    _check_token(api, where)
    planned = partial(plan, release, repo_id, private=private, overwrite_edits=overwrite_edits)
    change = planned()
    if change.parent is None:
        ask(f"create {where}", api.create_repo, **settings, private=True, exist_ok=True)
    if gated is not None:
        ask(f"gate {where}", api.update_repo_settings, **settings, gated=gated)
    if private:
        ask(f"make {where} private", api.update_repo_settings, **settings, private=True)
    change, commit = _commit(api, release, repo_id, planned)
    if private is False:
        ask(f"make {where} public", api.update_repo_settings, **settings, private=False)
    ask(f"tag {where}", api.create_tag, **settings, tag=change.tag, revision=commit, exist_ok=True)
    if collection is not None:
        _collect(api, release, repo_id, collection, change.private)
    prefix = "datasets/" if release.kind == "dataset" else ""
    return Published(f"{api.endpoint}/{prefix}{repo_id}", commit, change.tag, change)


def _check_token(api: HfApi, where: str) -> None:
    """Refuse a missing or read-only token before anything is created."""
    identity = ask(f"publish {where}", api.whoami)
    role = identity.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise ConfigError(
            f"Cannot publish {where}: the token of {identity['name']} is read-only.",
            "Create a token with write access at https://huggingface.co/settings/tokens and set HF_TOKEN.",
        )


def _commit(api: HfApi, release: Release, repo_id: str, look: Callable[[], ReleasePlan]) -> tuple[ReleasePlan, str]:
    """Commit on top of the known revision; if somebody else was faster, plan again."""
    where = f"the {KINDS[release.kind]} {repo_id}"
    for attempt in range(RACES):
        change = look()
        if not change.add and not change.delete:
            return change, str(change.parent)
        operations = [CommitOperationAdd(path, content) for path, content in change.add.items()]
        operations += [CommitOperationDelete(path) for path in change.delete]
        message = f"Publish {release.name} with star_hf {__version__}"

        def send(change: ReleasePlan = change, operations: list = operations, message: str = message) -> str | None:
            try:
                return api.create_commit(
                    repo_id,
                    operations,
                    commit_message=message,
                    repo_type=release.kind,
                    parent_commit=change.parent,
                ).oid
            except HfHubHTTPError as error:
                if error.response.status_code in (409, 412):
                    return None
                raise

        if (commit := ask(f"publish {where}", send)) is not None:
            return change, commit
        logger.warning("%s changed in the meantime; planning again.", where)
        time.sleep(0.1 * 2**attempt)
    raise IncompleteRunError(
        f"Cannot publish {where}: others keep changing it.", "Uploaded files are kept: run the same command again."
    )


def _collect(api: HfApi, release: Release, repo_id: str, title: str, private: bool) -> None:
    """Add the repository to its owner's collection of this title."""
    owner = repo_id.split("/")[0]
    what = f"add {repo_id} to the collection {title!r}"
    collection = ask(what, api.create_collection, title, namespace=owner, private=private, exists_ok=True)
    ask(what, api.add_collection_item, collection.slug, repo_id, release.kind, exists_ok=True)


def _check_type(api: HfApi, kind: Kind, repo_id: str) -> None:
    for other, noun in KINDS.items():
        if other != kind and ask(f"look at {repo_id}", api.repo_exists, repo_id, repo_type=other):
            raise ConfigError(
                f"{repo_id} is a {noun}, but the release is a {KINDS[kind]}.", "Choose another --repo-id."
            )
