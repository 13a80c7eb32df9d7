import json

import pytest

from star_hf.evaluation.generation.weights import fingerprint


def folder(path, **files):
    path.mkdir()
    for name, content in {"model.safetensors": "0", **files}.items():
        (path / name.replace("__", ".")).write_text(content)
    return path


def test_an_adapter_is_another_model_once_its_base_has_changed(tmp_path):
    base = folder(tmp_path / "base")
    adapter = folder(tmp_path / "adapter", adapter_config__json=json.dumps({"base_model_name_or_path": str(base)}))
    before = fingerprint(adapter)
    assert fingerprint(adapter) == before
    (base / "model.safetensors").write_text("1")
    assert fingerprint(adapter) != before


@pytest.mark.parametrize(
    "name",
    ["config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja", "merges.txt", "modeling_m.py"],
)
def test_whatever_can_change_a_response_changes_the_fingerprint(name, tmp_path):
    model = folder(tmp_path / "model")
    before = fingerprint(model)
    (model / name).write_text("{}")
    assert fingerprint(model) != before
