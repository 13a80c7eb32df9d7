"""What is learnt of a row: against the published script's definition, and against what is served."""

import json
import re

import pytest
from datasets import Dataset

import standins
from star_hf.errors import TrainingError
from star_hf.training.chat.templates import recognise
from star_hf.training.chat.tokenise import IGNORED, ChatEncoder, Masking, check_rows, tokenise


QUESTION, THOUGHT, ANSWER = "Where is the sieve?", "That is harmless.", "In the kitchen."
RESPONSE = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"


@pytest.fixture(scope="module")
def star_1(shared_data):
    (path,) = sorted((shared_data / "raw" / "STAR-1").glob("STAR-1*.json"))
    return json.loads(path.read_text(encoding="utf-8"))


def learnt(row):
    return [label for label in row.labels if label != IGNORED]


@pytest.mark.parametrize(
    ("name", "reasoning", "opens", "mended"),
    [
        ("r1", True, True, True),
        ("r1-old", True, False, True),
        ("chatml", False, False, False),
        ("llama-3", False, False, False),
    ],
)
def test_published_templates_are_recognised_by_what_they_do(name, reasoning, opens, mended):
    tokenizer = standins.small_tokenizer(name)
    before = tokenizer.chat_template
    found = recognise(tokenizer)
    assert (found.name, found.reasoning, found.opens_thought, found.mended) == (name, reasoning, opens, mended)
    assert tokenizer.chat_template == before


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "no chat template"),
        ("{% for m in messages %}{{ m['content'].split('\n')[-1] }}{% endfor %}", "drops the reasoning"),
        ("{% for m in messages %}{{ m['content'][:0] }}{% endfor %}", "leaves the question out"),
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "leaves the answer out"),
        ("{{ raise_exception('no system message') }}", "fails on a question and an answer .no system message"),
    ],
)
def test_a_template_that_cannot_be_trained_on_is_refused_with_the_reason(template, words):
    tokenizer = standins.small_tokenizer("chatml")
    tokenizer.chat_template = template
    with pytest.raises(TrainingError, match=words):
        ChatEncoder(tokenizer)


@pytest.mark.parametrize("name", ["r1", "r1-old", "chatml", "llama-3"])
def test_labels_are_thought_answer_and_end_after_the_served_prompt(name):
    tokenizer = standins.small_tokenizer(name)
    encoder = ChatEncoder(tokenizer)
    row = encoder.encode(QUESTION, RESPONSE)
    start = len(encoder.serving_ids(QUESTION))
    assert row.aligned
    assert row.input_ids[:start] == encoder.serving_ids(QUESTION)
    assert set(row.labels[:start]) == {IGNORED} and row.labels[start:] == row.input_ids[start:]
    opening = "" if name == "r1" else "<think>\n"
    assert tokenizer.decode(learnt(row)).rstrip("\n") == (
        f"{opening}{THOUGHT}\n</think>\n\n{ANSWER}{tokenizer.eos_token}"
    )


def test_d28_the_paper_trains_qwen_distills_without_bos_and_we_with_the_one_that_is_served():
    tokenizer = standins.small_tokenizer("r1")
    bos = tokenizer.bos_token_id
    ours = ChatEncoder(tokenizer, Masking.of("recommended", True, "qwen2")).encode(QUESTION, RESPONSE)
    paper = ChatEncoder(tokenizer, Masking.of("paper", True, "qwen2")).encode(QUESTION, RESPONSE)
    llama = ChatEncoder(tokenizer, Masking.of("paper", True, "llama")).encode(QUESTION, RESPONSE)
    assert ours.input_ids.count(bos) == 1 and llama.input_ids.count(bos) == 1
    assert paper.input_ids == ours.input_ids[1:] and learnt(paper) == learnt(ours)


def test_d29_the_thought_is_learnt_although_the_template_drops_it():
    tokenizer = standins.small_tokenizer("r1")
    shipped = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": RESPONSE}], tokenize=False
    )
    assert THOUGHT not in shipped
    assert THOUGHT in tokenizer.decode(learnt(ChatEncoder(tokenizer).encode(QUESTION, RESPONSE)))


def test_d31_without_thinking_the_cut_is_where_the_served_prompt_ends():
    tokenizer = standins.small_tokenizer("r1")
    encoder = ChatEncoder(tokenizer, Masking(think=False))
    row = encoder.encode(QUESTION, RESPONSE)
    assert row.aligned and tokenizer.decode(learnt(row)) == ANSWER + tokenizer.eos_token
    assert encoder.prefill.endswith("\n\n</think>\n\n") or encoder.prefill == "\n</think>\n\n"
    paper = ChatEncoder(tokenizer, Masking(think=False, mode="paper"))
    assert not paper.encode(QUESTION, RESPONSE).aligned


@pytest.mark.parametrize("name", ["r1", "r1-old", "chatml", "llama-3"])
def test_a_row_without_a_response_teaches_the_primer_alone_where_the_thought_begins(name):
    tokenizer = standins.small_tokenizer(name)
    encoder = ChatEncoder(tokenizer, Masking(primer="Let us see."))
    row = encoder.encode(QUESTION, None)
    whole = encoder.encode(QUESTION, f"<think>\nLet us see.\n</think>\n\n{ANSWER}")
    opening = "" if name == "r1" else "<think>\n"
    assert tokenizer.decode(learnt(row)) == f"{opening}Let us see."
    assert row.primed and row.aligned and row.input_ids == whole.input_ids[: len(row.input_ids)]
    assert not whole.primed and whole.input_ids[-1] != row.input_ids[-1]


def test_only_a_primer_lets_a_response_be_missing():
    rows = Dataset.from_list([*standins.rows(2), {**standins.rows(1)[0], "response": None}])
    check_rows(rows, think=True, primed=True)
    with pytest.raises(TrainingError, match="1 of 3 rows.*its answer is empty"):
        check_rows(rows, think=True)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        ("An answer alone.", "no `<think>` block"),
        ("<think>\nnever closed", "never closed"),
        ("<think>\n</think>\n\nYes.", "thought is empty"),
        ("<think>\nSo.\n</think>\n\n", "answer is empty"),
    ],
)
def test_a_row_that_cannot_be_learnt_from_is_named_by_id_and_not_shown(response, words):
    rows = Dataset.from_list([*standins.rows(2), {**standins.rows(1)[0], "id": "odd", "response": response}])
    with pytest.raises(TrainingError, match=f"1 of 3 rows.*row odd.*{re.escape(words)}") as refused:
        check_rows(rows, think=True)
    assert standins.rows(1)[0]["question"] not in str(refused.value)


def test_an_answer_is_enough_where_no_thought_is_learnt():
    responses = ["An answer alone.", "<think>\n</think>\n\nYes.", "<think>\nSo.\n</think>\n\nYes."]
    rows = [{**row, "response": text} for row, text in zip(standins.rows(3), responses, strict=True)]
    check_rows(Dataset.from_list(rows), think=False)
    for response, words in (("<think>\nnever closed", "never closed"), ("<think>\nSo.\n</think>", "answer is empty")):
        with pytest.raises(TrainingError, match=f"1 of 4 rows.*{words}"):
            check_rows(Dataset.from_list([*rows, {**rows[0], "response": response}]), think=False)


def test_row_0_of_star_1_has_the_known_lengths(star_1):
    row = ChatEncoder(standins.qwen_tokenizer("r1")).encode(star_1[0]["question"], star_1[0]["response"])
    assert (len(row.input_ids), len(learnt(row))) == (349, 337)


def published_labels(tokenizer, question, response):
    """The label tokens of the published script: what follows the prompt in the untruncated conversation."""
    thought, answer = re.search(r"<think>\s*(.*?)\s*</think>\s*(.*)", response.strip(), re.DOTALL).groups()
    prompt = f"{tokenizer.bos_token}<｜User｜>{question}<｜Assistant｜><think>\n"
    text = f"{prompt}{thought.strip()}\n</think>\n\n{answer.strip()}{tokenizer.eos_token}"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[len(tokenizer(prompt, add_special_tokens=False)["input_ids"]) :]


@pytest.mark.slow
@pytest.mark.parametrize("make", [standins.qwen_tokenizer, standins.llama_tokenizer])
def test_labels_of_all_of_star_1_are_the_published_ones(star_1, make):
    tokenizer = make("r1")
    encoder = ChatEncoder(tokenizer)
    for row in star_1:
        encoded = encoder.encode(row["question"], row["response"])
        assert encoded.aligned
        assert learnt(encoded) == published_labels(tokenizer, row["question"], row["response"])


def test_tokenise_keeps_the_rows_in_their_order():
    rows = Dataset.from_list(standins.rows(5))
    encoder = ChatEncoder(standins.small_tokenizer("chatml"))
    encoded = tokenise(rows, encoder)
    assert encoded.column_names == ["input_ids", "labels", "aligned", "primed"]
    assert encoded[3]["input_ids"] == encoder.encode(rows[3]["question"], rows[3]["response"]).input_ids
