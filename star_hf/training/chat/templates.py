"""How a chat template writes a thought, an answer and the end of a turn: found by rendering a probing conversation.

Families differ in the *place* where a template takes a thought (the message's field `reasoning_content`, a part of its
content, or tags inside the content), in the *marks* around it (`<think>`, `[THINK]`, a channel), in whether the prompt
opens it, and in the argument that switches thinking off. All of that can be seen in the assistant's part of a rendered
conversation. Training then puts a row's texts between the marks, so that no template can drop or change them:
DeepSeek-R1's cuts everything before `</think>` out of an assistant's turn (open-r1#349, #604).
"""

import datetime
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...errors import TrainingError
from ...utils.text import CLOSE, OPEN, join_reasoning


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


__all__ = ["OPENING", "ChatFormat", "recognise", "render", "unusable"]

SWITCHES = ("enable_thinking", "thinking")
"""Arguments with which templates switch thinking on and off."""
OPENING = re.compile(rf"{OPEN}\s*\Z")
"""The end of a generation prompt that opens the thought with `<think>`."""
TODAY = datetime.datetime(2026, 1, 1)
"""The date that templates write in training, so that the same rows have the same labels on any day."""
_DATE = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
_MARK = re.compile(r"(<[^<>\s]+>|\[[A-Z_]+\])\s*\Z")
_EMPTY = re.compile(rf"(?:{OPEN}\s*)?{CLOSE}\s*\Z")
_OTHER_MARKS = re.compile(
    r"\[THINK\]|<\|?channel\|?>|◁think▷|<(?!think>)[\w:|]*(?:think|thought|reasoning)[\w:|]*>", re.I
)
_PRINTED = re.compile(r"""['"]type['"]\s*:""")
_QUESTION, _THOUGHT, _ANSWER = "Which tool sifts flour?", "That is a kitchen matter.", "A sieve."
_PLACES: dict[str, tuple[dict[str, Any], ...]] = {
    "reasoning_content": ({"content": _ANSWER, "reasoning_content": _THOUGHT},),
    "chunks": tuple(
        {"content": [{"type": "thinking", "thinking": thought}, {"type": "text", "text": _ANSWER}]}
        for thought in (_THOUGHT, [{"type": "text", "text": _THOUGHT}])
    ),
    "content": ({"content": join_reasoning(_THOUGHT, _ANSWER)},),
}
"""Where a template may take a thought, its own field first; messages to try in each place."""


@dataclass(frozen=True)
class ChatFormat:
    """What training needs to know about a chat template.

    An assistant's turn is the generation prompt, then `before`, thought, `between`, answer, `tail`; an answer without
    a thought is the prompt, `direct`, answer, `tail`.

    Attributes:
        name (`str`): `"r1"` or `"r1-old"` (the published ones), `"reasoning"` (another one with thoughts), `"chatml"`,
            `"llama-3"` or `"own"`.
        place (`str`): Where the template takes a thought: `"reasoning_content"`, `"chunks"` (a part of the content) or
            `"content"` (between tags); `"none"` if no thought can be trained, for the reason `problem`.
        opening (`str`): The mark that opens a thought.
        opens_thought (`bool`): Whether the generation prompt ends with it.
        mended (`bool`): Whether the template drops thoughts, and training writes them in their place.
        thinks (`dict`): The template's arguments for a thought, such as `{"enable_thinking": True}`.
        thinks_not (`dict` or `None`): Those for an answer alone; `None` without such a switch.
        dated (`bool`): Whether the template writes today's date, in training always [`TODAY`].
    """

    name: str
    place: str
    before: str = ""
    between: str = ""
    tail: str = ""
    direct: str = ""
    opening: str = ""
    opens_thought: bool = False
    mended: bool = False
    thinks: dict[str, Any] = field(default_factory=dict)
    thinks_not: dict[str, Any] | None = None
    dated: bool = False
    problem: str | None = None

    @property
    def reasoning(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.name in ("r1", "r1-old", "reasoning")

    def check(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Refuse a template without a place for a thought.

        Raises:
            [`TrainingError`]: With the reason.
        """
        if self.problem:
            raise unusable(tokenizer, self.problem)

    @property
    def closing(self) -> str:
        """The mark that closes a thought."""
        return self.between.strip()


def recognise(
    tokenizer: "PreTrainedTokenizerBase",
    arguments: Mapping[str, Any] | None = None,
    stops: Collection[str] = (),
) -> ChatFormat:
    """Find out how the tokenizer's chat template treats reasoning.

    `arguments` are the template's, as a server takes them in `chat_template_kwargs`. `stops` are the model's stop
    tokens: a turn that ends with nothing (GLM) gets the one with which the next turn begins.

    Raises:
        [`TrainingError`]: If there is no template, or it leaves out the question or the answer. A template without
            a place for a thought is a `problem` of the result, since answers alone can be trained with it.
    """
    if not tokenizer.chat_template:
        raise TrainingError(
            f"The tokenizer {tokenizer.name_or_path or ''} has no chat template.",
            "Train the model's instruct or distilled variant, or set `tokenizer.chat_template` and save it.",
        )
    template, (thinks, thinks_not) = tokenizer.get_chat_template(), _switch(tokenizer, dict(arguments or {}))
    try:
        prompt = render(tokenizer, _QUESTION, thinks)
        turn = render(tokenizer, _QUESTION, thinks, {"content": _ANSWER})
        silent = turn if thinks_not is None else render(tokenizer, _QUESTION, thinks_not, {"content": _ANSWER})
        quiet = prompt if thinks_not is None else render(tokenizer, _QUESTION, thinks_not)
    except Exception as error:  # a template can raise anything
        raise unusable(tokenizer, f"it fails on a question and an answer ({error})") from None
    if _QUESTION not in prompt:
        raise unusable(tokenizer, "it leaves the question out")
    if turn.count(_ANSWER) != 1 or silent.count(_ANSWER) != 1:
        raise unusable(tokenizer, "it leaves the answer out")
    head, tail = turn.split(_ANSWER)
    if not any(stop in tail for stop in stops):
        tail = _next_turn(tokenizer, thinks, stops) or tail
    start = silent.split(_ANSWER)[0]
    found = ChatFormat(
        _name(template, OPENING.search(prompt) is not None),
        place="none",
        tail=tail,
        direct=start.removeprefix(quiet) if start.startswith(quiet) else "",
        thinks=thinks,
        thinks_not=thinks_not,
        dated=_DATE.search(template) is not None,
    )
    return _with_thought(tokenizer, found, template, prompt, head)


def render(
    tokenizer: "PreTrainedTokenizerBase",
    prompt: str | Sequence[Mapping[str, Any]],
    arguments: Mapping[str, Any] | None = None,
    turn: Mapping[str, Any] | None = None,
) -> str:
    """A question or a conversation as the model sees it, as text, up to the generation prompt.

    With `turn`, the fields of an assistant's message, the conversation ends with that message instead.
    """
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(each) for each in prompt]
    if turn is not None:
        messages.append({"role": "assistant", **turn})
    template = _DATE.sub(lambda call: repr(TODAY.strftime(call[2])), tokenizer.get_chat_template())
    return tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, add_generation_prompt=turn is None, **(arguments or {})
    )


def _switch(
    tokenizer: "PreTrainedTokenizerBase", given: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The arguments that switch thinking on, and those that switch it off, if the template has a switch."""

    def prompt(**more: bool) -> str | None:
        try:
            return render(tokenizer, _QUESTION, {**given, **more})
        except Exception:  # a template can raise anything; whether it works at all is seen later
            return None

    default = prompt()
    for name in SWITCHES:
        on, off = prompt(**{name: True}), prompt(**{name: False})
        if name not in given and None not in (on, off) and on != off:
            thinks, thinks_not = {**given, name: True}, {**given, name: False}
            return given if on == default else thinks, given if off == default else thinks_not
    return given, None


def _with_thought(
    tokenizer: "PreTrainedTokenizerBase", found: ChatFormat, template: str, prompt: str, head: str
) -> ChatFormat:
    """The format with place and marks of a thought, or with the problem that forbids one."""
    other, mark, problems = _OTHER_MARKS.search(template), _MARK.search(prompt), []
    for place, turns in _PLACES.items():
        for turn in turns:
            try:
                before, between = _read(render(tokenizer, _QUESTION, found.thinks, turn), prompt)
                if place == "content" and other:
                    raise ValueError(f"it writes thoughts as {other.group()}, but has no field for one")
            except Exception as error:  # a template can raise anything
                problems.append(str(error))
                continue
            opens = not before.strip()
            return replace(
                found,
                name=found.name if place == "content" else "reasoning",
                place=place,
                before=before,
                between=between,
                opening=mark[1] if opens and mark else before.strip(),
                opens_thought=opens,
            )
    opened = OPENING.search(prompt)
    start = prompt[: opened.start()] if opened else prompt
    if other is None and (opened or CLOSE in template) and _EMPTY.sub("", head) in (start, prompt):
        before = f"{OPEN}\n" if opened is None else "" if opened[0].endswith("\n") else "\n"
        marks = {"before": before, "between": f"\n{CLOSE}\n\n", "opening": OPEN, "opens_thought": opened is not None}
        return replace(found, place="content", mended=True, **marks)
    return replace(found, problem=problems[-1])


def _read(whole: str, prompt: str) -> tuple[str, str]:
    """What a rendered turn has before the thought and between thought and answer.

    Raises:
        `ValueError`: If thought and answer are not there once each, in this order, after the prompt.
    """
    if not whole.startswith(prompt):
        raise ValueError(
            f"its generation prompt ends with {prompt[-24:]!r}, but its assistant turn does not start with that"
        )
    turn = whole[len(prompt) :]
    if _THOUGHT not in turn:
        raise ValueError("it drops the reasoning, so that only the text after it would be learnt")
    parts = re.split(f"({re.escape(_THOUGHT)}|{re.escape(_ANSWER)})", turn)
    if parts[1::2] != [_THOUGHT, _ANSWER]:
        raise ValueError("it does not write the thought and then the answer once each")
    before, between = parts[0], parts[2]
    if _PRINTED.search(before + between):
        raise ValueError("it prints the parts of a message instead of their texts")
    if CLOSE in before or (before.strip() and OPENING.search(prompt)):
        raise ValueError("it opens the thought twice")
    return before, between


def _next_turn(tokenizer: "PreTrainedTokenizerBase", arguments: Mapping[str, Any], stops: Collection[str]) -> str:
    """The stop token with which the template begins the user's next turn, or an empty text."""
    turns = [("user", _QUESTION), ("assistant", _ANSWER), ("user", _QUESTION)]
    messages = [{"role": role, "content": content} for role, content in turns]
    rest = render(tokenizer, messages, arguments).rpartition(_ANSWER)[2]
    return next((stop for stop in stops if rest.startswith(stop)), "")


def unusable(tokenizer: "PreTrainedTokenizerBase", problem: str) -> TrainingError:
    """The error for a chat template that cannot be trained with."""
    return TrainingError(
        f"The chat template of {tokenizer.name_or_path or 'this tokenizer'} cannot be used for training: {problem}.",
        "Give another one with `chat_template_path`, or its arguments with `chat_template_kwargs`. Its assistant turn "
        "must start with its generation prompt, and keep the thought.",
    )


def _name(template: str, opens_thought: bool) -> str:
    if "<｜Assistant｜>" in template:
        return "r1" if opens_thought else "r1-old"
    if opens_thought or CLOSE in template:
        return "reasoning"
    return "chatml" if "<|im_start|>" in template else "llama-3" if "<|start_header_id|>" in template else "own"
