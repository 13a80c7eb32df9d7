import re
from pathlib import Path

import pytest

from star_hf.errors import ConfigError, PolicyError
from star_hf.evaluation.grading.judges import (
    KNOWN,
    LlamaGuard,
    PolicyJudge,
    Qwen3Guard,
    StrongReject,
    XSTest,
    load_judge,
)


URL = "http://localhost:8001/v1"


@pytest.mark.parametrize(
    ("spec", "name", "model", "at", "family"),
    [
        (f"llama-guard-3@{URL}", "llama-guard-3", "meta-llama/Llama-Guard-3-8B", URL, LlamaGuard),
        ("llama-guard-4", "llama-guard-4", "meta-llama/Llama-Guard-4-12B", "http://localhost:8000/v1", LlamaGuard),
        (f"llama-guard-3:guard@{URL}", "llama-guard-3:guard", "guard", URL, LlamaGuard),
        (f"meta-llama/Llama-Guard-3-8B@{URL}", "Llama-Guard-3-8B", "meta-llama/Llama-Guard-3-8B", URL, LlamaGuard),
        (
            f"qwen3guard:Qwen/Qwen3Guard-Gen-0.6B@{URL}",
            "qwen3guard:Qwen3Guard-Gen-0.6B",
            "Qwen/Qwen3Guard-Gen-0.6B",
            URL,
            Qwen3Guard,
        ),
        ("gpt-4o", "gpt-4o", "gpt-4o", "https://api.openai.com/v1", PolicyJudge),
        ("strongreject:gpt-4o", "strongreject:gpt-4o", "gpt-4o", "https://api.openai.com/v1", StrongReject),
        (f"Qwen/Qwen3-8B@{URL}", "Qwen3-8B", "Qwen/Qwen3-8B", URL, PolicyJudge),
        (f"Llama-Guard-3-8B@{URL}", "Llama-Guard-3-8B", "Llama-Guard-3-8B", URL, LlamaGuard),
        (f"@cf/meta/llama@{URL}", "llama", "@cf/meta/llama", URL, PolicyJudge),
    ],
)
def test_what_a_user_writes(spec, name, model, at, family):
    judge = load_judge(spec)
    assert judge.record() == {"name": name, "model": model, "at": at}
    assert isinstance(judge.family("safety"), family)
    assert judge.endpoint.temperature == 0 and judge.endpoint.max_tokens


@pytest.mark.parametrize("name", KNOWN)
def test_every_known_judge_loads(name):
    judge = load_judge(name)
    assert judge.name == name and judge.kinds and (judge.endpoint is None) == name.startswith("refusal")
    if judge.endpoint is not None:
        assert judge.endpoint.provider == ("openai" if KNOWN[name].model.startswith("gpt-4o") else "vllm")


@pytest.mark.parametrize("who", ["google/shieldgemma-9b", "nvidia/Nemotron-Content-Safety", "gpt-4o-mini"])
def test_a_model_that_is_not_known_is_said_to_be_asked_as_a_chat_model(who, caplog):
    load_judge(f"{who}@{URL}")
    assert caplog.messages == [
        f"{who} is not a judge with a format of its own: it is asked as a chat model, by our prompts."
    ]


@pytest.mark.parametrize("who", ["someone/Llama-Guard-3-8B-fp8", "policy:gpt-4o-mini", "xstest", "qwen3guard"])
def test_a_judge_that_is_known_is_loaded_without_a_word(who, caplog):
    load_judge(f"{who}@{URL}")
    assert not caplog.messages


def test_a_chat_model_judges_each_kind_by_what_fits():
    judge = load_judge("gpt-4o")
    assert isinstance(judge.family("safety"), PolicyJudge) and isinstance(judge.family("over_refusal"), XSTest)


def test_a_schema_does_not_constrain_the_thought_of_a_judge_that_reasons():
    assert load_judge(f"gpt-oss-safeguard@{URL}").endpoint.structured_output == "prompt"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "name of the judge is empty"),
        ("lama-guard-3", "Did you mean 'llama-guard-3'"),
        ("qwenguard", "`qwen3guard:MODEL@URL`"),
        (f"refusal-phrases@{URL}", "takes no URL"),
        ("refusal-phrases:gpt-4o", "takes no model"),
        ("xstest:", "takes no model"),
        ("llama-guard-3@localhost:8001/v1", "begins with http://"),
        ("llama-guard-3@http://me:secret@h/v1", "must not carry a user name"),
        ("nowhere.yaml", "No such file"),
        ("panel", "cannot have the name 'panel'"),
    ],
)
def test_what_cannot_be_understood_is_told(spec, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_judge(spec)
    assert "secret" not in str(caught.value)


def test_a_file_says_everything(tmp_path):
    (tmp_path / "rules.md").write_text("Say nothing of bread.\n")
    (tmp_path / "judge.yaml").write_text(
        "name: bakery\nfamily: policy\npolicy: rules.md\n"
        f"endpoint: {{model: openai/gpt-oss-safeguard-20b, base_url: {URL}, concurrency: 8, max_tokens: 2000}}\n"
    )
    judge = load_judge(tmp_path / "judge.yaml")
    assert judge.name == "bakery" and judge.family("safety").policy == "Say nothing of bread."
    assert judge.endpoint.concurrency == 8 and judge.endpoint.max_tokens == 2000 and judge.endpoint.temperature == 0


def test_the_file_in_the_guide_works(tmp_path):
    guide = Path(__file__).parents[4] / "docs" / "judges.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.S)
    (tmp_path / "rules.md").write_text("Say nothing of bread.\n")
    (tmp_path / "bakery.yaml").write_text(example)
    assert load_judge(tmp_path / "bakery.yaml").endpoint.model == "openai/gpt-oss-safeguard-20b"


def test_a_file_sets_what_controversial_means(tmp_path):
    (tmp_path / "judge.yaml").write_text(
        f"name: lenient\nfamily: qwen3guard\ncontroversial: safe\nendpoint: {{base_url: {URL}}}\n"
    )
    judge = load_judge(str(tmp_path / "judge.yaml"))
    assert judge.family("over_refusal").controversial == "safe"
    assert judge.endpoint.model == "Qwen/Qwen3Guard-Gen-8B"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "not valid YAML"),
        ("- a", "judge.yaml"),
        ("name: a\nfamily: oracle\nendpoint: {}", "`family`"),
        ("name: a\nfamily: policy\nendpoint: {modle: x}", "modle"),
        ("name: a\nfamily: policy\nendpoint: {base_url: 'http://me:secret@h/v1'}", "must not carry a user name"),
        ("name: a\nfamily: policy\npolicy: none.md\nendpoint: {}", "cannot be read"),
        ("name: a\nfamily: policy\npolicy: a.md\npolicies: b.yaml\nendpoint: {}", "both"),
        ("name: a\nfamily: chat\nendpoint: {}", "model"),
        ("name: panel\nfamily: chat\nendpoint: {model: x}", "judge.yaml: a judge cannot have the name 'panel'"),
        ("name: ' '\nfamily: chat\nendpoint: {model: x}", "cannot have the name ' '"),
    ],
)
def test_a_file_that_is_wrong_is_told(tmp_path, text, words):
    (tmp_path / "judge.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_judge(tmp_path / "judge.yaml")
    assert "secret" not in str(caught.value)


def test_a_taxonomy_that_is_wrong_is_told(tmp_path):
    (tmp_path / "judge.yaml").write_text("name: a\nfamily: policy\npolicies: none.yaml\nendpoint: {}\n")
    with pytest.raises(PolicyError):
        load_judge(tmp_path / "judge.yaml")
