"""A judge from its name, such as `llama-guard-3@http://localhost:8001/v1`, or from a YAML file."""

import logging
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ....errors import ConfigError
from ....llm.endpoint import Endpoint
from ....pipeline.config import GPT_4O
from ....policies import Taxonomy
from ....utils.files import read_text
from ....utils.options import Strict, read_yaml, validated
from .base import Family, Judge, Kind
from .kinds import Kinds, RefusalKind
from .llama_guard import LlamaGuard
from .policy import PolicyJudge
from .qwen3guard import Qwen3Guard
from .refusal import Refusal
from .refusal_phrases import RefusalPhrases
from .strongreject import StrongReject
from .wildguard import WildGuard
from .xstest import XSTest


__all__ = ["KNOWN", "Known", "load_judge"]

logger = logging.getLogger(__name__)


class Known(NamedTuple):
    """A judge that has a name, with its default model (`None` without one) and the token limit of a reply."""

    family: str
    model: str | None
    max_tokens: int = 512


KNOWN = {
    "llama-guard-3": Known("llama-guard", "meta-llama/Llama-Guard-3-8B", 100),
    "llama-guard-3-1b": Known("llama-guard", "meta-llama/Llama-Guard-3-1B", 100),
    "llama-guard-4": Known("llama-guard", "meta-llama/Llama-Guard-4-12B", 100),
    "qwen3guard": Known("qwen3guard", "Qwen/Qwen3Guard-Gen-8B", 128),
    "wildguard": Known("wildguard", "allenai/wildguard", 64),
    "gpt-oss-safeguard": Known("policy", "openai/gpt-oss-safeguard-20b", 4_096),
    "policy": Known("policy", GPT_4O),
    "strongreject": Known("strongreject", GPT_4O),
    "xstest": Known("xstest", GPT_4O),
    "refusal": Known("refusal", None),
    "refusal-phrases": Known("refusal-phrases", None),
}
"""The judges by name. Any other name is a chat model: it judges safety by the policy, over-refusal by XSTest, and
policy suites by the kind of response."""

GUARDS = {
    r"llama-?guard": KNOWN["llama-guard-3"],
    r"qwen3guard": KNOWN["qwen3guard"],
    r"wildguard": KNOWN["wildguard"],
    r"gpt-oss-safeguard": KNOWN["gpt-oss-safeguard"],
}
"""Patterns of model names, with the judge that such a model is."""

CHAT = Known("chat", None)
IN_FLIGHT = 64

TAKEN = ("", "panel")
"""No judge's name: the verdicts of `grading.panel.PANEL` are those of all judges together."""


class _File(Strict):
    """The options of a judge's YAML file."""

    name: str
    family: Literal["llama-guard", "qwen3guard", "wildguard", "policy", "strongreject", "xstest", "chat"]
    endpoint: dict[str, Any]
    policies: Path | None = None
    policy: Path | None = None
    controversial: Literal["safe", "unsafe"] = "unsafe"


def load_judge(spec: str | Path) -> Judge:
    """Make the judge that a user named.

    Args:
        spec (`str` or `Path`): `NAME[:MODEL][@URL]`, where `NAME` is one of [`KNOWN`]; a model's name with or without
            `@URL`; or a YAML file with `name`, `family`, `endpoint`, and for the policy judge `policies` (a taxonomy)
            or `policy` (a text). A model at a URL needs no key. Without a URL, guard models are expected at
            `http://localhost:8000/v1`, and all others at OpenAI.

    Raises:
        ConfigError: If there is no such judge, or its file has an unknown or invalid option.
        PolicyError: If a policy file cannot be used.

    Example:

    ```python
    >>> load_judge("llama-guard-3@http://localhost:8001/v1").endpoint.model
    'meta-llama/Llama-Guard-3-8B'
    >>> load_judge("xstest:gpt-4o").kinds
    ('over_refusal', 'safety')
    ```
    """
    if str(spec).endswith((".yaml", ".yml")):
        return _from_file(Path(spec))
    named = re.fullmatch(r"(?P<who>.+?)(?:@(?P<url>https?://\S+))?", str(spec).strip())
    if named is None:
        raise ConfigError("The name of the judge is empty.", f"Judges: {', '.join(KNOWN)}.")
    who, url = named["who"], named["url"]
    if url is None and "@" in who.lstrip("@"):
        raise ConfigError(f"{spec!r} has no URL after @.", "A URL begins with http:// or https://.")
    known, model = _look_up(who)
    if model is None:
        if url is not None:
            raise ConfigError(f"Judge {who!r} has no model, so it takes no URL.", f"Write `{who}` alone.")
        return Judge(who, _families(known.family))
    endpoint = _endpoint(known, model, {"base_url": url} if url else {}, f"Judge {who!r}")
    if known is CHAT:
        logger.warning("%s is not a judge with a format of its own: it is asked as a chat model, by our prompts.", who)
    return Judge(_free(_name(who), f"Judge {who!r}"), _families(known.family), endpoint)


def _look_up(who: str) -> tuple[Known, str | None]:
    """The known judge of this name, and its model."""
    name, colon, model = who.partition(":")
    if name in KNOWN:
        known = KNOWN[name]
        if colon and (known.model is None or not model):
            raise ConfigError(f"Judge {name!r} takes no model {model!r}.", f"Write `{name}` alone.")
        return known, model or known.model
    for pattern, known in GUARDS.items():
        if re.search(pattern, who, re.IGNORECASE):
            return known, who
    close = get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.75)
    if close and "/" not in who:
        raise ConfigError(
            f"There is no judge {name!r}.",
            f"Did you mean {close[0]!r}? For another model of its kind write `{close[0]}:MODEL@URL`.",
        )
    return CHAT, who


def _families(
    family: str, policy: Taxonomy | str | None = None, controversial: Literal["safe", "unsafe"] = "unsafe"
) -> Mapping[Kind, Family]:
    """How a family judges each kind of benchmark."""
    if family == "llama-guard":
        return {"safety": LlamaGuard()}
    if family == "strongreject":
        return {"safety": StrongReject()}
    if family == "policy":
        return {"safety": PolicyJudge(policy or Taxonomy.load()), "policy": Kinds()}
    if family == "xstest":
        return {"over_refusal": XSTest(), "safety": XSTest()}
    if family == "chat":
        return {"safety": PolicyJudge(policy or Taxonomy.load()), "over_refusal": XSTest(), "policy": Kinds()}
    both: Family = {
        "qwen3guard": lambda: Qwen3Guard(controversial),
        "wildguard": WildGuard,
        "refusal": Refusal,
        "refusal-phrases": RefusalPhrases,
    }[family]()
    return {"safety": both, "over_refusal": both, **({"policy": RefusalKind()} if family == "refusal" else {})}


def _endpoint(known: Known, model: str | None, given: Mapping[str, Any], where: str) -> Endpoint:
    """A judge's endpoint, by default at temperature 0, so that its verdicts can be reproduced."""
    ours = "base_url" in given or known.model != GPT_4O and known is not CHAT
    provider = given.get("provider", "vllm" if ours else "openai")
    defaults: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "temperature": 0.0,
        "max_tokens": known.max_tokens,
        "concurrency": IN_FLIGHT if ours else 32,
    }
    if known is KNOWN["gpt-oss-safeguard"]:
        defaults["structured"] = "prompt"  # a schema would constrain its reasoning as well
    return validated(Endpoint, {**defaults, **given}, where, "docs/judges.md shows the options of a judge.")


def _name(who: str) -> str:
    """A model's name without its organisation, short enough for the columns of tables."""
    family, colon, model = who.partition(":")
    return f"{family}:{model.rsplit('/', 1)[-1]}" if colon and family in KNOWN else who.rsplit("/", 1)[-1]


def _free(name: str, where: str | Path) -> str:
    """The name, if a judge may have it."""
    if name.strip() in TAKEN:
        raise ConfigError(
            f"{where}: a judge cannot have the name {name!r}.",
            "Give it another `name` in a YAML file.",
        )
    return name


def _from_file(path: Path) -> Judge:
    remedy = "docs/judges.md shows the options of a judge's file."
    given = validated(_File, read_yaml(path, remedy), path, remedy)
    if given.policies and given.policy:
        raise ConfigError(f"{path} has both `policies` and `policy`.", "Give a taxonomy or a text, not both.")
    known = next(known for known in (*KNOWN.values(), CHAT) if known.family == given.family)
    endpoint = _endpoint(known, given.endpoint.get("model") or known.model, given.endpoint, f"{path}: endpoint")
    name = _free(given.name, path)
    return Judge(name, _families(given.family, _policy(given, path.parent), given.controversial), endpoint)


def _policy(given: _File, folder: Path) -> Taxonomy | str | None:
    """The file's policy. Its path is relative to the file's folder."""
    if given.policies is not None:
        return Taxonomy.load(folder / given.policies.expanduser())
    if given.policy is None:
        return None
    return read_text(folder / given.policy.expanduser(), "the policy")
