"""Calls over HTTP: the `openai` client behind one coroutine that answers or names what went wrong."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import aiohttp
import openai

from ..errors import ConfigError
from ..text import encodable
from .endpoint import Endpoint
from .limits import Limits, retry_after_s, wait_s
from .types import Completion, Request


__all__ = ["Client", "Unavailable", "drain"]

Keyed = tuple[str, Request]


class Unavailable(Exception):
    """A request that could not be answered now. Nothing was journaled; ask again later.

    Args:
        message (`str`): What happened, where.
        status (`int`, *optional*): HTTP status, where there was an answer.
        headers (`Mapping`, *optional*): The answer's headers.
    """

    def __init__(self, message: str, status: int | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Client:
    """An endpoint that can be asked. Lives inside one event loop.

    Args:
        endpoint (`Endpoint`): Where to ask. Its key is read from the environment here and kept by the `openai`
            client alone.

    Raises:
        ConfigError: If the key or the URL is missing.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint = endpoint
        options: dict[str, Any] = {
            "api_key": endpoint.api_key() or "none",
            # Both are our own below: the limits must see every failure, and a timeout must cover the whole answer.
            "timeout": None,
            "max_retries": 0,
            "http_client": openai.DefaultAioHttpClient(timeout=None),
        }
        if endpoint.provider == "azure":
            options |= {"azure_endpoint": endpoint.url, "api_version": endpoint.api_version or "2024-10-21"}
            self._openai: openai.AsyncOpenAI = openai.AsyncAzureOpenAI(**options)
        else:
            self._openai = openai.AsyncOpenAI(base_url=endpoint.url, **options)
        self._create = self._openai.chat.completions.with_raw_response.create
        self._limits = Limits(endpoint)

    async def complete(self, request: Request) -> Completion:
        """The answer to a request, within the endpoint's limits. Failures that may pass are retried.

        An answer without text is asked for once more, and then handed on as it is, with the tokens of both.

        Raises:
            ConfigError: If the endpoint refuses the key, the model or the account: no later request would do better.
            Unavailable: If the failure is transient and outlived the retries.
        """
        completion = await self._persist(request)
        if completion.text.strip() or completion.outcome != "ok" or not self.endpoint.max_retries:
            return completion
        try:
            second = await self._persist(request)
        except Unavailable:
            return completion
        return replace(
            second,
            prompt_tokens=completion.prompt_tokens + second.prompt_tokens,
            completion_tokens=completion.completion_tokens + second.completion_tokens,
        )

    async def _persist(self, request: Request) -> Completion:
        failures = 0
        while True:
            try:
                return await self._attempt(request)
            except Unavailable as error:
                if failures == self.endpoint.max_retries:
                    raise
                await asyncio.sleep(wait_s(failures, retry_after_s(error.headers)))
                failures += 1

    async def _attempt(self, request: Request) -> Completion:
        """Ask once, when the limits allow it, and tell them how it went."""
        limits = self._limits
        async with limits.in_flight:
            tokens = limits.estimate(request)
            await limits.admit(tokens)
            sent_at = time.monotonic()
            try:
                completion, headers = await self._ask(request)
            except Unavailable as error:
                limits.failed(error.headers, tokens, error.status, sent_at)
                raise
            limits.answered(headers, tokens, completion)
        return replace(completion, latency_s=time.monotonic() - sent_at)

    async def _ask(self, request: Request) -> tuple[Completion, Mapping[str, str]]:
        url = self.endpoint.url
        try:
            async with asyncio.timeout(self.endpoint.timeout_s):
                reply = await self._create(**self._arguments(request))
        except TimeoutError:
            raise Unavailable(f"{url}: no whole answer within {self.endpoint.timeout_s:g} s") from None
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise self._refused(error) from None
        except openai.APIStatusError as error:
            return self._failure(error), error.response.headers
        except (openai.APIError, aiohttp.ClientError, OSError) as error:
            # The openai client names neither the URL nor the cause in its message, and lets some of aiohttp's through.
            cause = error.__cause__ or error
            raise Unavailable(f"{url}: {type(cause).__name__}: {cause}") from None
        try:
            return _completion(json.loads(reply.content)), reply.headers
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            what = f"{len(reply.content)} bytes of {reply.headers.get('content-type')}"
            raise Unavailable(f"{url} answered 200, but its {what} are no whole chat completion") from None

    def _arguments(self, request: Request) -> dict[str, Any]:
        """What the openai client is called with.

        It merges `extra_body` as it is. All else it walks against its types, which for a conversation takes a quarter
        of a request's processor time.
        """
        endpoint = self.endpoint
        body = endpoint.model_dump(include={"temperature", "top_p", "max_tokens", "seed"}, exclude_none=True)
        body["messages"] = request.messages
        if request.schema is not None and endpoint.structured_output == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif request.schema is not None and endpoint.structured_output == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": _strict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {"model": endpoint.model, "messages": [], "extra_body": {**body, **endpoint.extra_body}}

    def _refused(self, error: openai.APIStatusError) -> ConfigError:
        key = self.endpoint.api_key_env or self.endpoint.preset.api_key_env or "the key"
        remedy = {
            401: f"Check that {key} holds a valid key for this provider.",
            403: f"Check that the account behind {key} may use this model.",
            404: "Check `model` and `base_url`; a base URL usually ends in /v1.",
        }[error.status_code]
        return ConfigError(
            f"{self.endpoint.url} answered {error.status_code} for model {self.endpoint.model!r}: {_words(error)}",
            remedy,
        )

    def _failure(self, error: openai.APIStatusError) -> Completion:
        words = _words(error)
        if error.code == "insufficient_quota":
            raise ConfigError(
                f"{self.endpoint.url} says that the account has no credit left: {words}",
                "Add credit and run the same command again: nothing answered so far is asked again.",
            )
        if error.status_code in (400, 413, 422):
            filtered = error.code == "content_filter" or "content_filter" in words
            return Completion("", outcome="content_filter" if filtered else "invalid_request", detail=words)
        message = f"{self.endpoint.url} answered {error.status_code}: {words}"
        raise Unavailable(message, error.status_code, error.response.headers)


def _completion(reply: dict[str, Any]) -> Completion:
    choice, usage = reply["choices"][0], reply.get("usage") or {}
    message = choice["message"]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    outcome = {"length": "truncated", "content_filter": "content_filter"}.get(choice.get("finish_reason"), "ok")
    refusal = message.get("refusal") or ""
    return Completion(
        text=encodable(message.get("content") or ""),
        reasoning=encodable(reasoning) if isinstance(reasoning, str) else None,
        outcome="refused" if refusal else outcome,
        detail=encodable(refusal),
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        model=reply.get("model") or "",
        provider_id=reply.get("id") or "",
    )


def _words(error: openai.APIStatusError) -> str:
    """The provider's own words in one short line; an error page is not repeated whole."""
    body = error.body if isinstance(error.body, dict) else {}
    return " ".join(str(body.get("message") or error.message).split())[:300]


def _strict(schema: Any) -> Any:
    """The schema without `uniqueItems`, which OpenAI's strict mode refuses; `parse` checks it anyway."""
    if isinstance(schema, dict):
        return {key: _strict(value) for key, value in schema.items() if key != "uniqueItems"}
    return [_strict(item) for item in schema] if isinstance(schema, list) else schema


def drain(endpoint: Endpoint, requests: Iterator[Keyed], keep: Callable[[str, Completion], None]) -> list[str]:
    """Answer all requests, at most `endpoint.concurrency` at a time, handing each answer to `keep` at once.

    Requests are drawn from the iterator as places become free, so memory does not grow with their number. When as many
    requests in a row as are allowed in flight have failed, the endpoint is taken for down and no more are sent.

    Args:
        endpoint (`Endpoint`): Where to ask.
        requests (iterator of `(key, Request)`): What to ask.
        keep (`Callable`): Called with the key and the completion, before the next request of that place is sent.

    Returns:
        `list[str]`: One line for each request that stayed unanswered.

    Raises:
        ConfigError: As soon as the endpoint refuses key, model or account.
    """
    return _run(_drain(endpoint, requests, keep))


async def _drain(endpoint: Endpoint, requests: Iterator[Keyed], keep: Callable[[str, Completion], None]) -> list[str]:
    client = Client(endpoint)
    failures: list[str] = []
    failed_in_a_row = 0
    end: Exception | None = None

    async def place() -> None:
        nonlocal failed_in_a_row, end
        while end is None and failed_in_a_row < max(endpoint.concurrency, 3):
            try:
                keyed = next(requests, None)
                if keyed is None:
                    return
                completion = await client.complete(keyed[1])
                failed_in_a_row = 0
                keep(keyed[0], completion)
            except Unavailable as error:
                failed_in_a_row += 1
                failures.append(str(error))
            except Exception as error:
                end = end or error

    # No place raises, so that what is in flight when one meets its end is still answered and kept.
    async with client._openai, asyncio.TaskGroup() as places:
        for _ in range(endpoint.concurrency):
            places.create_task(place())
    if end is not None:
        raise end
    return failures


def _run(coroutine: Any) -> Any:
    """Run a coroutine to its end, also where a loop is already running (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()
