"""From a model's raw text to an answer or a named failure: text that may be reasoning is not an answer."""

from ...llm.types import Completion
from ...utils.text import split_reasoning
from ..types import Response


__all__ = ["read_response", "read_completion"]

READ = ("ok", "truncated", "empty", "refused")
"""Outcomes of completions that are the model's own."""


def read_response(
    item_id: str,
    text: str | None,
    *,
    reasoning: str | None = None,
    truncated: bool = False,
    expects_reasoning: bool = False,
    sample: int = 0,
    tokens: int = 0,
) -> Response:
    """Split one reply into reasoning and answer, failing closed.

    | reply | answer or failure |
    |---|---|
    | `None` | `unanswered` |
    | cut at the token limit, in the reasoning or in the answer | `truncated` |
    | reasoning that never ends, even if the template opened it | `unclosed` |
    | nothing, or nothing after the reasoning | `empty` |
    | more than one closing tag | `unparseable` |
    | anything else | the text after the reasoning |

    Args:
        reasoning (`str`, *optional*): The reasoning, if the server returns it in a separate field.
        truncated (`bool`, defaults to `False`): Whether the token limit ended it (finish reason `"length"`).
        expects_reasoning (`bool`, defaults to `False`): Whether the model always reasons first. Then text without a
            closing tag is reasoning that never ended, since R1's template writes the opening tag into the prompt.

    Example:

    ```python
    >>> read_response("a1", "<think>Is it 4? Yes.</think>4").answer
    '4'
    >>> read_response("a1", "Is it 4? Or 5?", expects_reasoning=True).failure
    'unclosed'
    ```
    """
    if text is None:
        return Response(item_id, sample, failure="unanswered", tokens=tokens)
    parts = split_reasoning(text)
    thought, answer, problem = parts.thought, parts.answer, parts.problem
    if problem == "no_reasoning" and answer and expects_reasoning and not reasoning:
        thought, answer, problem = answer, None, "unclosed"
    thought = "\n".join(part.strip() for part in (reasoning, thought) if part)
    failure = {"unclosed": "unclosed", "ambiguous": "unparseable"}.get(problem, None if answer else "empty")
    failure = "truncated" if truncated else failure
    return Response(item_id, sample, None if failure else answer, thought or None, failure, tokens)


def read_completion(
    item_id: str, completion: Completion, *, expects_reasoning: bool = False, sample: int = 0
) -> Response:
    """Split a completion into reasoning and answer, see [`read_response`].

    A refusal that the provider returns in a separate field is what the user sees, so it is the answer. A completion
    that the provider's filter held back, that ended for an unknown reason or that cannot be read, and a request that
    its server rejected are `unanswered`: they tell nothing about the model.
    """
    refused, absent = completion.outcome == "refused", completion.outcome not in READ
    return read_response(
        item_id,
        None if absent else completion.detail if refused else completion.text,
        reasoning=completion.reasoning,
        truncated=completion.outcome == "truncated",
        expects_reasoning=expects_reasoning and not refused,
        sample=sample,
        tokens=completion.completion_tokens,
    )
