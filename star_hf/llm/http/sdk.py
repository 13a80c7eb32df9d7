"""The `openai` client, for calls that need no event loop: batches, and probing an endpoint."""

from typing import Any

import openai

from ...errors import ConfigError
from ..endpoint import Endpoint
from .wire import AZURE_VERSION, problem_of, refusal_of


__all__ = ["provider_words", "refused", "sync_client"]


def sync_client(endpoint: Endpoint, **options: Any) -> openai.OpenAI:
    """A client of the endpoint, with options of `openai.OpenAI`. The key is read from the environment here."""
    options["api_key"] = endpoint.api_key() or "none"
    if endpoint.provider == "azure":
        version = endpoint.api_version or AZURE_VERSION
        return openai.AzureOpenAI(azure_endpoint=endpoint.url, api_version=version, **options)
    return openai.OpenAI(base_url=endpoint.url, **options)


def provider_words(endpoint: Endpoint, error: openai.APIStatusError) -> str:
    """The provider's message in one short line, without the key, which some repeat."""
    return problem_of(endpoint, error.response.content)[1]


def refused(endpoint: Endpoint, error: openai.APIStatusError) -> ConfigError | None:
    """What to check if no later request can succeed; `None` if one may."""
    return refusal_of(endpoint, error.status_code, *problem_of(endpoint, error.response.content))
