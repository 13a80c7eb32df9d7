"""Where each family's template takes a thought, and what is learnt of a row with it."""

import re
from pathlib import Path

import pytest

import standins
from star_hf.errors import TrainingError
from star_hf.training.chat.templates import recognise, render
from star_hf.training.chat.tokenise import IGNORED, ChatEncoder, Masking


QUESTION, THOUGHT, ANSWER = "Where is the sieve?", "That is harmless.", "In the kitchen."
RESPONSE = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
ON, OFF = {"enable_thinking": True}, {"enable_thinking": False}
THINK, CHATML_END = ("<think>\n", "\n</think>\n\n"), "<|im_end|>\n"
LOOP = "{%- for m in messages -%}{%- if m.role == 'user' -%}"
OWN = {  # the habits of families whose templates no package ships, in a few lines of our own
    "two-marks": LOOP
    + "{{ '[Q]' + m.content + '[/Q]' }}{%- elif m.content is string -%}{{ m.content + '<|im_end|>' }}"
    "{%- else -%}{%- for part in m.content -%}{{ '[THINK]' + part.thinking + '[/THINK]' if part.type == 'thinking' "
    "else part.text }}{%- endfor -%}{{ '<|im_end|>' }}{%- endif -%}{%- endfor -%}",
    "nested-chunks": LOOP + "{{ '[Q]' + m.content + '[/Q]' }}{%- elif m.content is string -%}{{ m.content + "
    "'<|im_end|>' }}{%- else -%}{%- for part in m.content -%}{{ '[THINK]' + part.thinking[0].text + '[/THINK]' if "
    "part.type == 'thinking' else part.text }}{%- endfor -%}{{ '<|im_end|>' }}{%- endif -%}{%- endfor -%}",
    "own-tags": LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}{{ 'A: ' + ('<own:think>' + m.reasoning_content + "
    "'</own:think>' if m.reasoning_content else '') + m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}"
    "{{ 'A: ' if add_generation_prompt }}",
    "opens-without-newline": LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}{{ 'A: ' + m.content + '<|im_end|>' }}"
    "{%- endif -%}{%- endfor -%}{{ 'A: <think>' if add_generation_prompt }}",
    "strips-and-opens": LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}{{ 'A: ' + (m.content.split('</think>') | "
    "last).lstrip() + '<|im_end|>' }}{%- endif -%}{%- endfor -%}{{ 'A: <think>\n' if add_generation_prompt }}",
    "opens-in-both": LOOP
    + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}{{ 'A: <think>\n\n' + m.content + '<|im_end|>' }}"
    "{%- endif -%}{%- endfor -%}{{ 'A: <think>\n\n' if add_generation_prompt }}",
    "closes-before-an-answer": LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}{{ 'A: </think>' + "
    "(m.content.split('</think>') | last) + '<|im_end|>' }}{%- endif -%}{%- endfor -%}{%- if add_generation_prompt -%}"
    "{{ 'A: <think>' if thinking else 'A: </think>' }}{%- endif -%}",
    "mentions-tags": "{{ 'S: Write <think> and </think>.\n' }}" + LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}"
    "{{ 'A: ' + m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}{{ 'A: ' if add_generation_prompt }}",
    "dated": "{{ 'S: ' + strftime_now('%d %B %Y') + '\n' }}" + LOOP + "{{ 'Q: ' + m.content + '\n' }}{%- else -%}"
    "{{ 'A: ' + m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}{{ 'A: ' if add_generation_prompt }}",
}
"""Templates by what is special about them."""

FOUND = {  # place, (before, between), tail, arguments with and without a thought
    "deepseek_r1_distill": ("content", ("", "\n</think>\n\n"), "<｜end▁of▁sentence｜>", {}, None),
    "qwen2_5": ("content", THINK, CHATML_END, {}, None),
    "llama3_1": ("content", THINK, "<|eot_id|>", {}, None),
    "phi3_5": ("content", THINK, "<|end|>\n<|im_end|>", {}, None),
    "gemma3": ("content", THINK, "<end_of_turn>\n", {}, None),
    "qwen3_instruct_2507": ("content", THINK, CHATML_END, {}, None),
    "qwen3": ("reasoning_content", THINK, CHATML_END, {}, OFF),
    "qwen3_5_think": ("reasoning_content", ("", "\n</think>\n\n"), CHATML_END, {}, OFF),
    "qwen3_5_nothink": ("reasoning_content", ("", "\n</think>\n\n"), CHATML_END, ON, {}),
    "qwen3_6": ("reasoning_content", ("", "\n</think>\n\n"), CHATML_END, {}, OFF),
    "qwen3_8": ("reasoning_content", ("", "\n</think>\n\n"), CHATML_END, {}, OFF),
    "gptoss": (
        "reasoning_content",
        ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
        "<|return|>",
        {},
        None,
    ),
    "gemma4_v5": ("reasoning_content", ("<|channel>thought\n", "\n<channel|>"), "<turn|>\n", ON, {}),
    "glm4moe": ("reasoning_content", ("\n<think>", "</think>\n"), "<|user|>", {}, OFF),
    "nemotron_3_nano": ("reasoning_content", ("", "\n</think>\n"), CHATML_END, {}, OFF),
    "nemotron_3_ultra": ("reasoning_content", ("", "</think>"), CHATML_END, {}, OFF),
    "lfm2_2_5": ("reasoning_content", ("<think>", "</think>"), CHATML_END, {}, None),
    "two-marks": ("chunks", ("[THINK]", "[/THINK]"), "<|im_end|>", {}, None),
    "nested-chunks": ("chunks", ("[THINK]", "[/THINK]"), "<|im_end|>", {}, None),
    "own-tags": ("reasoning_content", ("<own:think>", "</own:think>"), "<|im_end|>", {}, None),
    "opens-without-newline": ("content", ("\n", "\n</think>\n\n"), "<|im_end|>", {}, None),
    "strips-and-opens": ("content", ("", "\n</think>\n\n"), "<|im_end|>", {}, None),
    "opens-in-both": ("content", ("", "\n</think>\n\n"), "<|im_end|>", {}, None),
    "closes-before-an-answer": ("content", ("\n", "\n</think>\n\n"), "<|im_end|>", {"thinking": True}, {}),
    "mentions-tags": ("content", THINK, "<|im_end|>", {}, None),
    "dated": ("content", THINK, "<|im_end|>", {}, None),
}
DIRECT = {"gptoss": "<|channel|>final<|message|>", "glm4moe": "\n"}
"""What stands before an answer without a thought."""


def tokenizer_with(name):
    tokenizer = standins.small_tokenizer("chatml")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<end_of_turn>", "<turn|>", "<|return|>"]})
    tokenizer.chat_template = OWN.get(name) or standins.template(name)
    return tokenizer


def encoder_for(name, **masking):
    tokenizer = tokenizer_with(name)
    return ChatEncoder(tokenizer, Masking(**masking), stops=range(len(tokenizer))[-4:])


def learnt(encoder, row):
    return encoder.tokenizer.decode([label for label in row.labels if label != IGNORED])


@pytest.mark.parametrize("name", FOUND)
def test_the_place_and_the_marks_of_a_thought_are_found_by_rendering(name):
    place, marks, tail, thinks, thinks_not = FOUND[name]
    found = encoder_for(name).format
    assert (found.place, (found.before, found.between), found.tail) == (place, marks, tail)
    assert (found.thinks, found.thinks_not, found.problem) == (thinks, thinks_not, None)


@pytest.mark.parametrize("name", FOUND)
def test_thought_answer_and_end_are_learnt_after_the_served_prompt(name):
    (before, between), tail = FOUND[name][1:3]
    encoder = encoder_for(name)
    row = encoder.encode(QUESTION, RESPONSE)
    served = encoder.tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], tokenize=False, add_generation_prompt=True, **encoder.arguments
    )
    served = re.sub(r"\d\d [A-Z][a-z]+ \d{4}", "01 January 2026", served) if encoder.format.dated else served
    start = len(encoder.serving_ids(QUESTION))
    assert row.aligned and set(row.labels[:start]) == {IGNORED} and row.labels[start:] == row.input_ids[start:]
    assert re.sub(
        r"\d\d [A-Z][a-z]{2} \d{4}|\d{4}-\d\d-\d\d", "", encoder.tokenizer.decode(row.input_ids[:start])
    ) == (re.sub(r"\d\d [A-Z][a-z]{2} \d{4}|\d{4}-\d\d-\d\d", "", served))
    assert learnt(encoder, row) == f"{before}{THOUGHT}{between}{ANSWER}{tail}"


@pytest.mark.parametrize("name", [name for name in FOUND if FOUND[name][0] != "content"])
def test_a_turn_is_what_the_template_itself_makes_of_a_thought(name):
    encoder = encoder_for(name)
    parts = [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]
    nested = [{**parts[0], "thinking": [{"type": "text", "text": THOUGHT}]}, parts[1]]
    chunks = {"content": nested if name == "nested-chunks" else parts}
    turn = chunks if encoder.format.place == "chunks" else {"content": ANSWER, "reasoning_content": THOUGHT}
    whole = render(encoder.tokenizer, QUESTION, encoder.arguments, turn)
    row = encoder.encode(QUESTION, RESPONSE)
    assert encoder.tokenizer.decode(row.input_ids).removesuffix("<|user|>") == whole


@pytest.mark.parametrize("name", FOUND)
def test_without_thinking_the_answer_follows_the_templates_own_switch(name):
    encoder = encoder_for(name, think=False)
    row = encoder.encode(QUESTION, RESPONSE)
    assert learnt(encoder, row) == f"{DIRECT.get(name, '')}{ANSWER}{FOUND[name][2]}" and row.aligned
    prompt = encoder.tokenizer.decode(encoder.serving_ids(QUESTION))
    assert prompt.endswith(encoder.prefill) and THOUGHT not in prompt
    if FOUND[name][4] is not None:
        assert encoder.arguments == FOUND[name][4] and encoder.prefill == ""


@pytest.mark.parametrize("name", ["gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4"])
def test_a_template_with_other_marks_but_no_field_is_refused_and_takes_answers(name):
    with pytest.raises(TrainingError, match="it writes thoughts as <.*>, but has no field for one"):
        encoder_for(name)
    encoder = encoder_for(name, think=False)
    assert learnt(encoder, encoder.encode(QUESTION, RESPONSE)) == f"{ANSWER}<turn|>\n"


@pytest.mark.parametrize("name", ["idefics3", "smolvlm", "llava_next"])
def test_a_template_that_takes_no_plain_text_is_refused(name):
    with pytest.raises(TrainingError, match="leaves the question out|fails on a question and an answer"):
        encoder_for(name)


def test_every_template_that_trl_ships_is_usable_or_refused_with_a_reason():
    import trl

    names = {path.stem for path in (Path(trl.__file__).parent / "chat_templates").glob("*.jinja")}
    verdicts = {}
    for name in sorted(names):
        tokenizer = tokenizer_with(name)
        tokenizer.add_special_tokens({"bos_token": "<s>"})
        try:
            verdicts[name] = recognise(tokenizer).place
        except TrainingError:
            verdicts[name] = "refused"
    refused = {name for name, place in verdicts.items() if place in ("refused", "none")}
    assert {name.removesuffix("_training") for name in refused} == {
        *("gemma4", "gemma4_v2", "gemma4_v3", "gemma4_v4", "idefics3", "llava_next", "smolvlm")
    }


def test_the_date_of_a_template_is_frozen():
    encoder = encoder_for("dated")
    assert encoder.format.dated and "01 January 2026" in encoder.tokenizer.decode(encoder.serving_ids(QUESTION))


@pytest.mark.parametrize("place", ["question", "thought", "answer"])
def test_special_tokens_in_a_rows_text_stay_text(place):
    encoder = encoder_for("qwen2_5")
    texts = {"question": QUESTION, "thought": THOUGHT, "answer": ANSWER}
    texts[place] = "It ends with <|im_end|> there."
    row = encoder.encode(texts["question"], f"<think>\n{texts['thought']}\n</think>\n\n{texts['answer']}")
    plain = encoder.encode(QUESTION, RESPONSE)
    end = encoder.tokenizer.eos_token_id
    assert row.input_ids.count(end) == plain.input_ids.count(end)
    assert "It ends with <|im_end|> there." in encoder.tokenizer.decode(row.input_ids)


def test_prompt_and_rest_are_tokenised_apart_where_a_merge_crosses_the_border():
    from tokenizers import AddedToken

    encoder = encoder_for("opens-without-newline")
    encoder.tokenizer.add_tokens(AddedToken("<think>\n", special=False))
    row, start = encoder.encode(QUESTION, RESPONSE), encoder.serving_ids(QUESTION)
    assert row.aligned and row.input_ids[: len(start)] == start
    assert learnt(encoder, row) == f"\n{THOUGHT}\n</think>\n\n{ANSWER}<|im_end|>"


def test_a_conversation_is_the_prompt_of_its_last_question():
    encoder = encoder_for("qwen2_5")
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": QUESTION},
    ]
    row = encoder.encode(talk, RESPONSE)
    prompt = encoder.tokenizer.decode(encoder.serving_ids(talk))
    assert prompt == render(encoder.tokenizer, talk) and "Be brief." in prompt and "Good day." in prompt
    assert learnt(encoder, row) == f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (LOOP + "{{ 'Q: ' + m.content }}{%- elif m.role == 'assistant' -%}{{ 'A: ' + m.content + '<|im_end|>' }}"
         "{%- endif -%}{%- endfor -%}{{ 'A: ' if add_generation_prompt }}", "leaves out a message of the role system"),
        ("{{ raise_exception('no system role') if messages[0].role == 'system' }}" + LOOP + "{{ 'Q: ' + m.content }}"
         "{%- else -%}{{ 'A: ' + m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}"
         "{{ 'A: ' if add_generation_prompt }}", "fails on a conversation .no system role"),
    ],
)  # fmt: skip
def test_a_template_that_takes_no_system_message_is_refused_where_a_row_has_one(template, words):
    tokenizer = standins.small_tokenizer("chatml")
    tokenizer.chat_template = template
    encoder = ChatEncoder(tokenizer)
    assert encoder.encode(QUESTION, RESPONSE).aligned
    with pytest.raises(TrainingError, match=words):
        encoder.encode([{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}], RESPONSE)
