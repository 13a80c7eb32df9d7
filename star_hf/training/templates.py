"""How a tokenizer's chat template treats reasoning: found by rendering, and fixed where it drops the thought.

DeepSeek-R1's distills were published with two templates. Both cut everything before `</think>` out of an assistant's
turn, so a trainer that renders conversations with them learns answers only (open-r1#349, #604). The one of February
2025 also writes `<think>` into the generation prompt.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import TrainingError
from ..utils.text import CLOSE, OPEN, join_reasoning


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["OPENING", "ChatFormat", "recognise", "render"]

_STRIPS = re.compile(
    r"\{%-?\s*if '</think>' in content\s*-?%\}\s*"
    r"\{%-?\s*set content = content\.split\('</think>'\)\[-1\]\s*-?%\}\s*"
    r"\{%-?\s*endif\s*-?%\}"
)
OPENING = re.compile(rf"{OPEN}\s*\Z")
"""The end of a generation prompt that opens the thought."""
_QUESTION, _THOUGHT, _ANSWER = "Which tool sifts flour?", "That is a kitchen matter.", "A sieve."


@dataclass(frozen=True)
class ChatFormat:
    """What training needs to know about a chat template.

    Attributes:
        name (`str`): `"r1"` or `"r1-old"` (the published ones), `"reasoning"` (another one with `</think>`),
            `"chatml"`, `"llama-3"` or `"own"`.
        template (`str`): Jinja text that renders whole conversations: the tokenizer's, without the block that strips
            reasoning.
        opens_thought (`bool`): Whether the generation prompt ends with `<think>`.
        mended (`bool`): Whether the stripping block was removed. The tokenizer itself is not changed.
    """

    name: str
    template: str
    opens_thought: bool
    mended: bool

    @property
    def reasoning(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.name in ("r1", "r1-old", "reasoning")


def recognise(tokenizer: "PreTrainedTokenizerBase") -> ChatFormat:
    """Find out how the tokenizer's chat template treats reasoning.

    Raises:
        [`TrainingError`]: If there is no template, or it cannot render a thought and an answer after its own
            generation prompt, even without the block that strips reasoning.
    """
    name = tokenizer.name_or_path or "this tokenizer"
    if not tokenizer.chat_template:
        raise TrainingError(
            f"The tokenizer {name} has no chat template.",
            "Train the model's instruct or distilled variant, or set `tokenizer.chat_template` and save it.",
        )
    shipped, prompt, problem = tokenizer.get_chat_template(), render(tokenizer, _QUESTION), None
    for template in dict.fromkeys((shipped, _STRIPS.sub("", shipped))):
        problem = _problem(tokenizer, template, prompt)
        if problem is None:
            opens = OPENING.search(prompt) is not None
            return ChatFormat(_name(shipped, opens), template, opens, mended=template != shipped)
    raise TrainingError(
        f"The chat template of {name} cannot be used for training: {problem}.",
        "Save the tokenizer with a template whose assistant turn keeps `<think>...</think>` and starts with the end "
        "of its generation prompt.",
    )


def render(
    tokenizer: "PreTrainedTokenizerBase", question: str, response: str | None = None, template: str | None = None
) -> str:
    """A question as the model sees it, or with `response` the whole conversation, as text.

    Without a response the text ends with the generation prompt. `template` replaces the tokenizer's own.
    """
    messages = [{"role": "user", "content": question}]
    if response is not None:
        messages.append({"role": "assistant", "content": response})
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=response is None
    )


def _problem(tokenizer: "PreTrainedTokenizerBase", template: str, prompt: str) -> str | None:
    """Why a template cannot be used for training, or `None`."""
    try:
        whole = render(tokenizer, _QUESTION, join_reasoning(_THOUGHT, _ANSWER), template)
    except Exception as error:  # a template can raise anything
        return f"it fails on a question and an answer ({error})"
    if _ANSWER not in whole:
        return "it leaves the answer out"
    if _THOUGHT not in whole or whole.count(CLOSE) != 1:
        return "it drops the reasoning, so that only the text after `</think>` would be learnt"
    if not whole.startswith(prompt):
        return f"its generation prompt ends with {prompt[-24:]!r}, but its assistant turn does not start with that"
    return None


def _name(template: str, opens_thought: bool) -> str:
    if "<｜Assistant｜>" in template:
        return "r1" if opens_thought else "r1-old"
    if opens_thought or CLOSE in template:
        return "reasoning"
    return "chatml" if "<|im_start|>" in template else "llama-3" if "<|start_header_id|>" in template else "own"
