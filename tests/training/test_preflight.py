import pytest
from datasets import Dataset

import standins
from star_hf.errors import TrainingError
from star_hf.training.chat.tokenise import ChatEncoder, Masking, tokenise
from star_hf.training.plan import TrainingPlan, count_parameters, gpu_minutes, memory_gib, window
from star_hf.training.preflight import preflight


def check(plan=None, tokenizer=None, masking=None, rows=8, config=None, change=None):
    encoder = ChatEncoder(tokenizer or standins.small_tokenizer("r1"), masking)
    data = Dataset.from_list(standins.rows(rows))
    encoded = tokenise(data, encoder)
    if change:
        encoded = encoded.map(change, load_from_cache_file=False)
    return preflight(encoded, data[0]["question"], encoder, plan or TrainingPlan(), config)


def test_a_sound_recipe_passes_and_shows_its_labels():
    found = check(TrainingPlan(processes=2, per_device_batch=2, accumulation=1, epochs=3, global_batch=4))
    found.check()
    assert found.problems == [] and found.warnings == []
    assert (found.bos_in_training, found.bos_in_serving) == (1, 1)
    assert found.updates == 6 and found.batch == 4
    assert found.first_labels.startswith("The small sieve")
    assert found.last_labels.endswith("<｜end▁of▁sentence｜>")
    assert 0 < found.label_tokens < found.tokens


def test_updates_count_the_last_incomplete_batch_of_each_epoch():
    assert check(TrainingPlan(per_device_batch=3, epochs=5), rows=8).updates == 15


def test_updates_and_time_are_those_of_max_updates_where_it_is_set():
    config = standins.small_model(standins.small_tokenizer("r1")).config
    three, one = (check(TrainingPlan(per_device_batch=8, epochs=5, max_updates=n), config=config) for n in (3, 1))
    whole = check(TrainingPlan(per_device_batch=8, epochs=3), config=config)
    assert (three.updates, one.updates) == (3, 1)
    assert three.gpu_minutes == whole.gpu_minutes == pytest.approx(3 * one.gpu_minutes)
    assert gpu_minutes(7_615_616_512, 5 * 382_734) == pytest.approx(4.9, abs=0.05)  # STAR-1, five epochs, 7B


def test_packed_rows_are_refused_where_the_recipe_stands_for_a_batch():
    with pytest.raises(TrainingError, match="packing puts many examples into one"):
        check(TrainingPlan(per_device_batch=8, global_batch=8, packing=True)).check()
    check(TrainingPlan(per_device_batch=8, packing=True)).check()


def test_the_paper_mode_passes_and_says_what_differs_from_serving():
    found = check(masking=Masking.of("paper", True, "qwen2"))
    found.check()
    assert "0 BOS tokens in training and 1 in serving" in found.warnings[0]


def test_d31_the_same_difference_is_refused_when_it_is_not_on_purpose():
    found = check(masking=Masking(think=True, mode="recommended", bos=False))
    with pytest.raises(TrainingError, match="0 BOS tokens in training and 1 in serving"):
        found.check()


def test_d32_rows_that_do_not_end_with_the_end_token_are_refused():
    found = check(change=lambda row: {"input_ids": row["input_ids"][:-1], "labels": row["labels"][:-1]})
    with pytest.raises(TrainingError, match="8 rows do not end with"):
        found.check()


def test_rows_that_only_begin_a_thought_need_no_end_token_and_are_counted():
    encoder = ChatEncoder(standins.small_tokenizer("r1"), Masking(primer="Let us see."))
    rows = Dataset.from_list([{**row, "response": None} for row in standins.rows(3)] + standins.rows(5))
    encoded = tokenise(rows, encoder)
    found = preflight(encoded, "Where?", encoder, TrainingPlan())
    found.check()
    assert (found.rows, found.primed) == (8, 3) and found.first_labels == found.last_labels == "Let us see."
    cut = encoded.map(lambda row: {"labels": row["labels"][:-1]}, load_from_cache_file=False)
    with pytest.raises(TrainingError, match="5 rows do not end with"):
        preflight(cut, "Where?", encoder, TrainingPlan()).check()


def test_misaligned_rows_are_refused():
    with pytest.raises(TrainingError, match="in 8 rows the ids before the first label are not the served prompt"):
        check(change=lambda row: {"aligned": False}).check()


def test_d30_a_tokenizer_that_loses_spaces_is_refused():
    from tokenizers import normalizers

    tokenizer = standins.small_tokenizer("r1")
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("  ", "")
    with pytest.raises(TrainingError, match="does not give back its text"):
        check(tokenizer=tokenizer).check()


def test_no_row_is_cut_in_silence():
    with pytest.raises(TrainingError, match="8 rows are longer than max_length = 16"):
        check(TrainingPlan(max_length=16)).check()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (TrainingPlan(4, 16, 1, global_batch=128), "set gradient_accumulation_steps: 2"),
        (TrainingPlan(3, 16, 1, global_batch=128), "does not divide by 48"),
    ],
)
def test_another_global_batch_is_refused_with_what_to_set(plan, words):
    with pytest.raises(TrainingError, match=words):
        check(plan).check()


def test_too_little_memory_is_refused_before_weights_are_loaded():
    config = standins.small_model(standins.small_tokenizer("r1")).config
    with pytest.raises(TrainingError, match="zero3_offload.yaml"):
        check(TrainingPlan(device_gib=0.001), config=config).check()


def test_memory_of_seven_billion_parameters_is_what_is_known_of_it():
    from transformers import Qwen2Config

    config = Qwen2Config(
        vocab_size=152_064,
        hidden_size=3584,
        intermediate_size=18_944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        tie_word_embeddings=False,
    )
    parameters = count_parameters(config)
    assert parameters == 7_615_616_512  # the published size of Qwen2.5-7B and its distill
    alone = memory_gib(config, parameters, TrainingPlan(), 1200)
    spread = memory_gib(config, parameters, TrainingPlan(processes=8, per_device_batch=16, shards=3), 1200)
    assert 113 < alone < 115 and 14 < spread < 30
    gradients = memory_gib(config, parameters, TrainingPlan(processes=8, shards=2), 1200)  # the weights stay whole
    optimiser = memory_gib(config, parameters, TrainingPlan(processes=8, shards=1), 1200)
    assert gradients - memory_gib(config, parameters, TrainingPlan(processes=8, shards=3), 1200) == pytest.approx(
        parameters * 2 * 7 / 8 / 2**30
    )
    assert optimiser - gradients == pytest.approx(parameters * 2 * 7 / 8 / 2**30)
    assert memory_gib(config, parameters, TrainingPlan(processes=8, shards=3, offload=True), 1200) < 1
    assert memory_gib(config, parameters, TrainingPlan(lora=True), 1200) < 16


@pytest.mark.parametrize("name", ["Gemma3", "Gemma4", "Qwen3_5", "Qwen3_5Moe", "Mistral3", "Llama4", "Qwen2_5_VL"])
def test_the_sizes_of_a_multimodal_model_are_those_of_its_text_model(name):
    import transformers

    config = getattr(transformers, f"{name}Config")()
    text = config.get_text_config()
    text.num_hidden_layers = 2
    parameters = count_parameters(config)
    assert parameters > text.vocab_size * text.hidden_size
    assert memory_gib(config, parameters, TrainingPlan(), 100) > 16 * parameters / 2**30
    assert window(config) == text.max_position_embeddings


def test_a_model_of_unknown_sizes_is_no_obstacle():
    from transformers import PretrainedConfig

    found = check(TrainingPlan(device_gib=1), config=PretrainedConfig())
    found.check()
    assert (found.parameters, found.memory_gib, found.gpu_minutes) == (None, None, None)


def test_rows_beyond_the_models_positions_are_refused():
    config = standins.small_model(standins.small_tokenizer("r1")).config
    config.max_position_embeddings = 24
    with pytest.raises(TrainingError, match="rows are longer than the model's 24 positions"):
        check(config=config).check()


def test_the_stop_tokens_are_those_that_the_model_is_served_with():
    tokenizer = standins.small_tokenizer("chatml")
    tokenizer.chat_template, end = standins.template("gemma3"), "<end_of_turn>"
    tokenizer.add_special_tokens({"bos_token": "<bos>", "additional_special_tokens": [end]})
    rows = Dataset.from_list(standins.rows(4))
    for stops, words in (([], "4 rows do not end with '<|im_end|>'"), ([tokenizer.convert_tokens_to_ids(end)], None)):
        encoder = ChatEncoder(tokenizer, stops=stops)
        found = preflight(tokenise(rows, encoder), "Where?", encoder, TrainingPlan())
        assert (words is None) == (found.problems == []) and (words is None or words in found.problems[0])


def test_arguments_that_a_server_needs_and_a_frozen_date_are_said():
    tokenizer = standins.small_tokenizer("chatml")
    tokenizer.chat_template = standins.template("qwen3_5_nothink")
    rows = Dataset.from_list(standins.rows(4))
    encoder = ChatEncoder(tokenizer)
    found = preflight(tokenise(rows, encoder), "Where?", encoder, TrainingPlan())
    assert found.warnings == ['serve with chat_template_kwargs {"enable_thinking": true}, which training uses']
    assert (found.place, found.marks) == ("reasoning_content", "<think> ... </think>")
    given = ChatEncoder(tokenizer, arguments={"enable_thinking": True})
    assert preflight(tokenise(rows, given), "Where?", given, TrainingPlan()).warnings == []
    tokenizer.chat_template = standins.template("llama3_2")
    tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": "<|eot_id|>"})
    dated = ChatEncoder(tokenizer)
    found = preflight(tokenise(rows, dated), "Where?", dated, TrainingPlan())
    assert found.warnings == ["the template writes the date; in training it is always 01 January 2026"]
