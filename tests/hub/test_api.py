"""How long a busy Hub is waited for, and when a file there is the same as one here."""

import hashlib

import pytest
from huggingface_hub.hf_api import RepoFile

from star_hf.hub.api import ask, hub_api, is_same


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ({"Retry_After": "7"}, [7, 7]),
        ({}, [2, 4]),
        ({"Retry_After": "soon"}, [2, 4]),
        ({"Retry_After": "999"}, [60] * 2),
    ],
)
def test_a_busy_hub_is_waited_for_as_long_as_it_asks_but_no_longer_than_a_minute(hub, monkeypatch, asked, waited):
    slept = []
    monkeypatch.setattr("star_hf.hub.api.time.sleep", slept.append)
    hub.fail(503, "/whoami", times=2, **asked)
    assert ask("look", hub_api().whoami)["name"] == "tester" and slept == waited


def there(content: bytes, lfs: bool) -> RepoFile:
    """A file of a repository as the Hub lists it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    large = {"lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 128}}
    return RepoFile(path="a", size=len(content), oid="0" * 40 if lfs else blob, **(large if lfs else {}))


@pytest.mark.parametrize("lfs", [True, False])
def test_a_file_of_the_same_size_is_not_the_same_file(tmp_path, lfs):
    (tmp_path / "a").write_bytes(b"rows")
    for content in (b"rows", tmp_path / "a"):
        assert is_same(there(b"rows", lfs), content)
        assert not is_same(there(b"sows", lfs), content) and not is_same(there(b"row", lfs), content)
