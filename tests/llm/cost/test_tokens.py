import base64
import hashlib

import pytest

from star_hf.llm import Request
from star_hf.llm.cost.tokens import ESTIMATE, TIKTOKEN_URL, prompt_tokens, token_counter
from star_hf.llm.http.replies import completion_of


def test_without_a_tokenizer_there_is_the_estimate(tmp_path, monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    for model in ("gpt-4o-2024-11-20", "nobody/no-model", "my deployment: 1"):
        assert token_counter(model) is ESTIMATE
    assert ESTIMATE.count("") == 0 and ESTIMATE.count("four") == 1 and ESTIMATE.count("fünf") == 2


def test_a_tokenizer_in_a_folder_or_in_the_hubs_cache_is_used(tmp_path, monkeypatch):
    tokenizers = pytest.importorskip("tokenizers")
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(tmp_path / "tokenizer.json"))
    counter = token_counter(str(tmp_path))
    assert counter.count("a b a") == 3 and str(tmp_path) in counter.name

    import huggingface_hub

    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, name: str(tmp_path / name) if repo == "o/m" else None
    )
    assert token_counter("o/m").count("a b") == 2 and token_counter("o/other") is ESTIMATE


def test_tiktokens_file_is_used_where_it_is_cached_and_never_downloaded(tmp_path, monkeypatch):
    tiktoken = pytest.importorskip("tiktoken")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    seen = []

    class Encoding:
        def encode_ordinary(self, text):
            return text.split()

    monkeypatch.setattr(tiktoken, "get_encoding", lambda name: seen.append(name) or Encoding())
    assert token_counter("gpt-4o") is ESTIMATE and not seen
    path = tmp_path / hashlib.sha1(TIKTOKEN_URL.format("o200k_base").encode()).hexdigest()
    path.write_bytes(base64.b64encode(b"a") + b" 0\n")
    counter = token_counter("gpt-4o-2024-11-20")
    assert counter.name == "tiktoken o200k_base" and counter.count("three small words") == 3


def test_all_messages_of_a_prompt_and_the_thought_of_an_answer_are_estimated():
    messages = [{"role": role, "content": "x" * 400} for role in ("system", "user")]
    assert prompt_tokens(Request(messages)) == 200
    reply = {"choices": [{"message": {"content": "x" * 40, "reasoning_content": "x" * 400}}]}
    assert completion_of(reply, Request(messages)).prompt_tokens == 200
    assert completion_of(reply).completion_tokens == 110
