"""What an error of a provider means: for one request, for the whole endpoint, or for now."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ...errors import ConfigError
from ..endpoint import Endpoint
from ..types import Completion
from .replies import body_of, words


__all__ = ["Problem", "error_in", "failure_of", "problem_of", "refusal_of"]


class Problem(NamedTuple):
    """A provider's error: its code, its message in one short line without our key, and all its codes and types."""

    code: str | None
    said: str
    kinds: str = ""


FILTERED = re.compile(
    r"content[ _]?filter|content exists risk|data_inspection_failed|inappropriate content|content_?policy_?violation"
    r"|content management policy|responsibleaipolicyviolation|flagged (as|by|for)|safety system|prohibited[ _]content"
    r"|sensitive (content|words)|moderation_(blocked|error)|requires moderation|\binvalid_prompt\b"
    r"|considered high risk|敏感内容|敏感词|不安全|违规"
)
"""Words for a filter of OpenAI, Azure, DeepSeek, DashScope, Zhipu, Moonshot, OpenRouter and litellm, in any status."""

KEY = re.compile(
    r"invalid_?api_?key|authentication_?error|invalid_authentication"
    r"|\b(invalid|incorrect|wrong|expired|missing|malformed|no)\b\W+(\w+\W+){0,3}?api[ _-]?key"
    r"|\bapi[ _-]?key\b\W+(\S+\s+){0,4}?(invalid|incorrect|expired|missing|required|not valid|not found)"
)
CREDIT = re.compile(
    r"insufficient[ _](quota|balance|funds|credits?)|credit balance|(out of|no|not enough) credits?\b|billing"
    r"|payment[ _]required|arrearage|\boverdue\b|欠费|余额不足"
)
MODEL = re.compile(
    r"model_not_(supported|found|available)|unsupported_model|invalid_model|deploymentnotfound|no such model"
    r"|\bmodel\b.{0,120}\b(does not exist|is not supported|not found|is not available|has been (deprecated|removed))"
    r"|\b(unknown|invalid|unsupported) model\b"
)
STREAM = re.compile(
    r"only supports? stream|stream(ing)?( mode| parameter)? (only|is required|must)|stream (must|should) be"
    r"|must (set|enable|use) .{0,20}stream|non-?stream(ing)?\b.{0,40}not supported|stream ?= ?true"
)
OPTION = re.compile(
    r"(unsupported|unknown)[ _](parameter|value|argument)|unrecognized (request )?(argument|parameter)"
    r"|extra inputs are not permitted|extra_forbidden"
    r"|\b(response_format|json_schema|temperature|top_p|seed|max_tokens|max_completion_tokens|reasoning_effort)\b"
    r".{0,60}?\b(not (supported|allowed|permitted)|unsupported|too large)"
)
LENGTH = re.compile(r"context[ _](length|window)|maximum (context|model) length|max_model_len|prompt is too long")


def problem_of(content: bytes) -> Problem:
    """The error in the body of a reply, which may be anything."""
    try:
        return error_in(body_of(content))
    except (ValueError, RecursionError):
        return error_in(content.decode("utf-8", "replace"))


def error_in(body: Any) -> Problem:
    """The error in a reply's JSON, or in the text of a reply that has none."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = (body.get("error") or body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        outer = body.get("code") if isinstance(body, Mapping) else None
        return Problem(None, words(error or "an empty body"), words(outer or "").lower())
    code, inner = error.get("code"), error.get("innererror")
    codes = (code, error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None)
    said = words(error.get("message") or error or "an empty body")
    return Problem(None if code is None else words(code), said, words(" ".join(map(str, filter(None, codes)))).lower())


def failure_of(status: int, problem: Problem) -> Completion | None:
    """The named failure of a request that would fail again; `None` if a retry may succeed."""
    text = f"{problem.kinds} {problem.said.lower()}"
    if (status in (400, 403, 413, 422, 451) or status >= 500) and FILTERED.search(text):
        return Completion("", outcome="content_filter", detail=problem.said)
    return Completion("", outcome="invalid_request", detail=problem.said) if status in (400, 413, 422) else None


def refusal_of(endpoint: Endpoint, status: int, problem: Problem, location: str = "") -> ConfigError | None:
    """What to check if no later request can succeed; `None` if one may."""
    key = endpoint.key_variable or "the key"
    said = problem.said
    if 300 <= status < 400:
        said = f"a redirect to {words(urlsplit(location).netloc or location) or 'nowhere'}, which is not followed"
    remedies = {
        "redirect": "It would get the key and the prompts. Set `base_url` to the address that answers itself, if you "
        "trust it.",
        "key": f"Check that {key} holds a valid key for this provider.",
        "credit": f"Add credit to the account behind {key}, and run the same command again to go on.",
        "account": f"Check that the account behind {key} may use this model.",
        "address": "Check `model` and `base_url`; a base URL usually ends in /v1.",
        "gone": "The provider no longer has this model: choose another one.",
        "stream": "Add `extra_body: {stream: true}` to the endpoint: streams are read, too.",
        "option": "Remove or change this option of the endpoint; `star-hf endpoints check` shows what works.",
    }
    remedy = remedies.get(_concern(status, problem) or "")
    if remedy is None:
        return None
    return ConfigError(f"{endpoint.url} answered {status} for model {endpoint.model!r}: {said}", remedy)


def _concern(status: int, problem: Problem) -> str | None:
    """What of an endpoint an error concerns; `None` if it is the request alone, or passes."""
    by_status = {401: "key", 402: "credit", 403: "account", 404: "address", 405: "address", 410: "gone"}
    if 300 <= status < 400:
        return "redirect"
    if problem.code == "insufficient_quota":
        return "credit"
    if status not in (400, 422):
        return by_status.get(status)
    text = f"{problem.kinds} {problem.said.lower()}"
    if LENGTH.search(text):
        return None  # a shorter prompt may fit
    words_of = {"key": KEY, "credit": CREDIT, "address": MODEL, "stream": STREAM, "option": OPTION}
    return next((concern for concern, pattern in words_of.items() if pattern.search(text)), None)
