"""The `openai` client, for calls that need no event loop: batches, and probing an endpoint."""

from typing import Any

import openai

from ...errors import ConfigError
from ..endpoint import Endpoint
from .refusals import problem_of, refusal_of
from .wire import AZURE_VERSION


__all__ = ["provider_words", "refused", "sync_client"]


def sync_client(endpoint: Endpoint, **options: Any) -> openai.OpenAI:
    """A client of the endpoint, with options of `openai.OpenAI`. The key is read from the environment here, and sent
    to no other address: no redirect is followed."""
    options["api_key"] = endpoint.api_key() or "none"
    options["http_client"] = openai.DefaultHttpxClient(follow_redirects=False)
    if endpoint.provider == "azure":
        version = endpoint.api_version or AZURE_VERSION
        return openai.AzureOpenAI(azure_endpoint=endpoint.url, api_version=version, **options)
    return openai.OpenAI(base_url=endpoint.url, **options)


def provider_words(error: openai.APIStatusError) -> str:
    """The provider's message in one short line, without the key, which some repeat."""
    return problem_of(error.response.content).said


def refused(endpoint: Endpoint, error: openai.APIStatusError) -> ConfigError | None:
    """What to check if no later request can succeed; `None` if one may."""
    location = error.response.headers.get("location", "")
    return refusal_of(endpoint, error.status_code, problem_of(error.response.content), location)
