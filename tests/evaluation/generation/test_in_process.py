import pytest

from small_benchmarks import tiny_model
from star_hf.errors import ConfigError
from star_hf.evaluation.generation.generate import generate
from star_hf.evaluation.generation.in_process import InProcess
from star_hf.evaluation.generation.models import Sampling
from star_hf.evaluation.types import Item
from star_hf.llm import Journal, Request


ITEMS = [Item(f"item-{n}", "How do I bake bread" + " and cake" * n + "?") for n in range(9)]
GREEDY = Sampling(max_tokens=12)
DRAWN = Sampling(temperature=1.0, max_tokens=12, samples=2)


def model(folder, **options):
    return InProcess(str(folder), batch_size=4, **options)


def texts(items, subject, path, sampling):
    with Journal(path) as journal:
        found = list(generate(items, subject, journal, sampling, progress=False))
        assert len(found) == len(journal) == len(items) * sampling.samples
    return [(item.id, sample, completion.text, completion.outcome) for item, sample, completion, *_ in found]


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN])
def test_a_run_that_was_interrupted_ends_with_the_answers_of_an_undisturbed_one(tiny, tmp_path, sampling):
    class Interrupted(InProcess):
        def _answer(self, batch, sampling):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            return super()._answer(batch, sampling)

    undisturbed = texts(ITEMS, model(tiny), tmp_path / "one.sqlite", sampling)
    subject = Interrupted(str(tiny), batch_size=4)
    subject.left = 2
    with Journal(tmp_path / "two.sqlite") as journal:
        with pytest.raises(KeyboardInterrupt):
            generate(ITEMS, subject, journal, sampling, progress=False)
        assert len(journal) == 8, "two batches of four"
    assert texts(ITEMS, model(tiny), tmp_path / "two.sqlite", sampling) == undisturbed


def test_the_order_of_the_items_changes_nothing(tiny, tmp_path):
    forward = texts(ITEMS, model(tiny), tmp_path / "one.sqlite", DRAWN)
    assert sorted(texts(ITEMS[::-1], model(tiny), tmp_path / "two.sqlite", DRAWN)) == sorted(forward)


def test_samples_of_an_item_differ(tiny, tmp_path):
    found = texts(ITEMS, model(tiny), tmp_path / "journal.sqlite", DRAWN)
    assert len({text for _, _, text, _ in found}) > len(ITEMS)


def test_transformers_is_given_every_sampling_parameter(tiny, tmp_path, monkeypatch):
    subject, given = model(tiny), []
    generate_tokens = subject._model.generate

    def seen(*arguments, generation_config, **options):
        given.append(generation_config)
        return generate_tokens(*arguments, generation_config=generation_config, **options)

    monkeypatch.setattr(subject._model, "generate", seen)
    sampling = Sampling(temperature=0.7, top_p=0.8, repetition_penalty=1.3, max_tokens=5)
    texts(ITEMS[:1], subject, tmp_path / "drawn.sqlite", sampling)
    texts(ITEMS[:1], subject, tmp_path / "greedy.sqlite", Sampling(repetition_penalty=1.2, max_tokens=6))
    drawn, greedy = given
    assert (drawn.do_sample, drawn.temperature, drawn.top_p, drawn.top_k) == (True, 0.7, 0.8, 0)
    assert (drawn.repetition_penalty, drawn.max_new_tokens) == (1.3, 5)
    assert (greedy.do_sample, greedy.repetition_penalty, greedy.max_new_tokens) == (False, 1.2, 6)


def test_a_batch_does_not_change_an_answer(tiny, tmp_path):
    alone = texts(ITEMS, InProcess(str(tiny), batch_size=1, dtype="float32"), tmp_path / "one.sqlite", GREEDY)
    together = texts(ITEMS, InProcess(str(tiny), batch_size=9, dtype="float32"), tmp_path / "nine.sqlite", GREEDY)
    assert alone == together


def test_a_cut_answer_says_so_and_an_overlong_prompt_is_none(tiny, tmp_path):
    long = Item("long", "bread " * 200)
    (_, _, _, cut), (_, _, text, refused) = texts(
        [ITEMS[0], long], InProcess(str(tiny), batch_size=1), tmp_path / "journal.sqlite", Sampling(max_tokens=2)
    )
    assert (cut, text, refused) == ("truncated", "", "invalid_request")


def test_a_thought_that_the_template_opens_belongs_to_the_text(tiny, tmp_path):
    subject = model(tiny)
    opened = subject._tokenizer.chat_template.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
    subject._tokenizer.chat_template = opened
    ((_, _, text, _),) = texts(ITEMS[:1], subject, tmp_path / "journal.sqlite", GREEDY)
    assert text.startswith("<think>\n")


def test_a_prefilled_answer_is_gone_on_with(tiny):
    subject = model(tiny)
    question, opening = {"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Well, because"}
    assert subject._tokenizer.decode(subject._prompt(Request([question, opening]))).endswith("Well, because")
    assert subject._tokenizer.decode(subject._prompt(Request([question]))).endswith("<|assistant|>")


def test_retrained_weights_at_the_same_path_are_another_model(tmp_path):
    first = model(tiny_model(tmp_path / "model", seed=0)).fingerprint
    assert model(tmp_path / "model").fingerprint == first
    (tmp_path / "model" / "star_training.json").write_text("{}")
    assert model(tmp_path / "model").fingerprint == first, "a record of the training computes nothing"
    assert model(tiny_model(tmp_path / "model", seed=1)).fingerprint != first


def test_what_is_no_model_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigError, match="no \\*.safetensors"):
        InProcess(str(tmp_path))
    with pytest.raises(ConfigError, match="neither a folder nor a model"):
        InProcess("nobody/has-this-model")


def test_weights_without_a_tokenizer_are_told_before_the_first_prompt(tiny, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    with pytest.raises(ConfigError, match="no usable tokenizer"):
        InProcess(str(tmp_path)).probe()
