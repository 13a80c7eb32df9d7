"""How a tokenizer's chat template treats reasoning: found by what it does, mended where it drops the thought.

DeepSeek-R1's distills were published with two templates. Both cut everything up to `</think>` out of an assistant's
turn, so that a trainer which renders the conversation with them learns answers only (open-r1#349, #604). The newer one
(February 2025) also writes `<think>` into the generation prompt.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TrainingError
from ..utils.text import CLOSE, OPEN, join_reasoning


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["ChatFormat", "recognise", "render"]

_STRIPS = re.compile(
    r"\{%-?\s*if '</think>' in content\s*-?%\}\s*"
    r"\{%-?\s*set content = content\.split\('</think>'\)\[-1\]\s*-?%\}\s*"
    r"\{%-?\s*endif\s*-?%\}"
)
_OPENING = re.compile(rf"{OPEN}\s*\Z")
_QUESTION, _THOUGHT, _ANSWER = "Which tool sifts flour?", "That is a kitchen matter.", "A sieve."


@dataclass(frozen=True)
class ChatFormat:
    """What training needs to know of a chat template.

    Attributes:
        name (`str`): `"r1"` and `"r1-old"` (the two published ones), `"reasoning"` (another that knows `</think>`),
            `"chatml"`, `"llama-3"` or `"own"`.
        template (`str`): The Jinja text that whole conversations are rendered with: the tokenizer's own, without the
            block that strips reasoning.
        reasoning (`bool`): Whether the model is one that thinks before it answers.
        opens_thought (`bool`): Whether the generation prompt ends with `<think>`.
        mended (`bool`): Whether the stripping block was taken out. The tokenizer itself stays as it is.
    """

    name: str
    template: str
    reasoning: bool
    opens_thought: bool
    mended: bool


def recognise(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    """Find out how the tokenizer's chat template treats reasoning.

    Raises:
        TrainingError: If there is no template, or none of what we know renders a thought and an answer after the very
            prompt that the template gives at inference.
    """
    if not tokenizer.chat_template:
        raise TrainingError(
            f"The tokenizer of {tokenizer.name_or_path or 'this model'} has no chat template, so that nobody "
            "knows how a question is put to the model.",
            "Train the model's instruct or distilled variant, or set `tokenizer.chat_template` and save it.",
        )
    shipped = tokenizer.get_chat_template()
    without = _STRIPS.sub("", shipped)
    prompt = render(tokenizer, _QUESTION)
    problem = None
    for template in dict.fromkeys((shipped, without)):
        problem = _problem(tokenizer, template, prompt)
        if problem is None:
            break
    if problem is not None:
        raise TrainingError(
            f"The chat template of {tokenizer.name_or_path or 'this tokenizer'} cannot be trained on: {problem}.",
            "Save the tokenizer with a template whose assistant turn keeps `<think>...</think>` and starts with what "
            "its generation prompt ends with.",
        )
    opens = _OPENING.search(prompt) is not None
    name = _name(shipped, opens)
    return ChatFormat(
        name=name,
        template=template,
        reasoning=name in ("r1", "r1-old", "reasoning"),
        opens_thought=opens,
        mended=template != shipped,
    )


def render(
    tokenizer: "PreTrainedTokenizerBase", question: str, response: str | None = None, template: str | None = None
) -> str:
    """A question as the model is asked it, or with `response` the whole conversation, as text.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): Its chat template counts where `template` is `None`.
        question (`str`): The user's message.
        response (`str`, *optional*): The assistant's message; without it the generation prompt stands at the end.
        template (`str`, *optional*): Jinja text that replaces the tokenizer's template.
    """
    messages = [{"role": "user", "content": question}]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=response is None
    )


def _problem(tokenizer: "PreTrainedTokenizerBase", template: str, prompt: str) -> str | None:
    """Why a template does not do for training, or `None`."""
    try:
        whole = render(tokenizer, _QUESTION, join_reasoning(_THOUGHT, _ANSWER), template)
    except Exception as error:  # whatever a template raises, it cannot be used
        return f"it fails on a question and an answer ({error})"
    if _ANSWER not in whole:
        return "it leaves the answer out"
    if _THOUGHT not in whole or whole.count(CLOSE) != 1:
        return "it drops the reasoning of an answer, so that only what follows `</think>` would be learnt"
    if not whole.startswith(prompt):
        return f"its generation prompt ends with {prompt[-24:]!r}, which is not how it writes an assistant's turn"
    return None


def _name(template: str, opens_thought: bool) -> str:
    if "<｜Assistant｜>" in template:
        return "r1" if opens_thought else "r1-old"
    if opens_thought or CLOSE in template:
        return "reasoning"
    return "chatml" if "<|im_start|>" in template else "llama-3" if "<|start_header_id|>" in template else "own"
