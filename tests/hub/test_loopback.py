"""The loopback Hub against the real clients: what the other tests of this folder stand on."""

import io

import pytest
from datasets import Dataset, DatasetDict, get_dataset_config_names, load_dataset
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from hub import READER, STRANGER, USER


ROWS = {"id": ["a", "b", "c"], "score": [{"x": 1}, {"x": 2}, {"x": 3}], "category": [["one"], [], ["one", "two"]]}


@pytest.fixture
def rows():
    return Dataset.from_dict(ROWS)


def test_a_data_set_of_several_configurations_comes_back_equal(hub, rows):
    name = f"{USER}/several"
    rows.push_to_hub(name, private=True)
    rows.select([0]).push_to_hub(name, "small")
    DatasetDict({"train": rows, "test": rows.select([1])}).push_to_hub(name, "split")
    assert get_dataset_config_names(name) == ["default", "small", "split"]
    back = load_dataset(name, split="train")
    assert back.features == rows.features and back[:] == rows[:]
    assert load_dataset(name, "small", split="train").num_rows == 1
    assert load_dataset(name, "split", split="test")["id"][:] == ["b"]
    assert [row["id"] for row in load_dataset(name, split="train", streaming=True)] == ["a", "b", "c"]
    assert hub.repo("datasets", name).private
    assert hub.sent("PUT", "^/lfs/") == 3, "two files are the same bytes and go over the wire once"


def test_revisions_are_branches_tags_and_commits(hub, rows):
    name, api = f"{USER}/revised", HfApi()
    rows.push_to_hub(name)
    api.create_tag(name, tag="first", repo_type="dataset")
    rows.select([0]).push_to_hub(name)
    assert load_dataset(name, revision="first", split="train").num_rows == 3
    assert load_dataset(name, split="train").num_rows == 1
    first = {ref.name: ref.target_commit for ref in api.list_repo_refs(name, repo_type="dataset").tags}["first"]
    assert len(list(load_dataset(name, revision=first, split="train", streaming=True))) == 3
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info(name, revision="nowhere")
    rows.push_to_hub(name, revision="v2")
    assert load_dataset(name, revision="v2", split="train").num_rows == 3


def test_files_lfs_or_not_go_up_and_come_down(hub, tmp_path):
    name, api = f"{USER}/files", HfApi()
    api.create_repo(name)
    api.create_repo(name, exist_ok=True)
    api.upload_file(path_or_fileobj=b"words", path_in_repo="notes.txt", repo_id=name)
    api.upload_file(path_or_fileobj=io.BytesIO(bytes(range(256)) * 400), path_in_repo="a/weights.bin", repo_id=name)
    assert sorted(api.list_repo_files(name)) == ["a/weights.bin", "notes.txt"]
    folder = snapshot_download(name, local_dir=tmp_path / "down")
    assert (tmp_path / "down" / "a" / "weights.bin").read_bytes() == bytes(range(256)) * 400, folder
    assert HfFileSystem().read_text(f"{name}/notes.txt") == "words"
    assert api.get_paths_info(name, "a/weights.bin")[0].lfs.size == 102_400


def test_a_private_repository_is_hidden_and_a_gated_one_is_refused(hub, rows, monkeypatch, tmp_path):
    rows.push_to_hub(f"{USER}/secret", private=True)
    rows.push_to_hub(f"{USER}/gated")
    HfApi().update_repo_settings(f"{USER}/gated", gated="auto", repo_type="dataset")
    assert hub.repo("datasets", f"{USER}/gated").gated == "auto"
    for token in (None, STRANGER):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(RepositoryNotFoundError):
            HfApi().dataset_info(f"{USER}/secret")
        with pytest.raises(GatedRepoError):
            hf_hub_download(f"{USER}/gated", "README.md", repo_type="dataset", cache_dir=tmp_path)


@pytest.mark.parametrize(("token", "status"), [(READER, 403), (STRANGER, 403), ("hf_invented", 401)])
def test_who_may_not_write_is_refused(hub, token, status):
    with pytest.raises(HfHubHTTPError) as refused:
        HfApi(token=token).create_repo(f"{USER}/mine")
    assert refused.value.response.status_code == status and not hub.repos


def test_a_commit_on_an_old_parent_is_refused(hub):
    name, api = f"{USER}/race", HfApi()
    api.create_repo(name)
    parent = api.repo_info(name).sha
    hub.repo("models", name).edit("README.md", b"# mine\n")
    with pytest.raises(HfHubHTTPError) as refused:
        change = CommitOperationAdd("x.txt", b"x")
        api.create_commit(name, [change], commit_message="late", parent_commit=parent)
    assert refused.value.response.status_code == 412
    assert hub.repo("models", name).files() == {"README.md": b"# mine\n"}


def test_faults_come_when_they_are_asked_for_and_are_counted(hub, rows):
    hub.fail(500, "/preupload/", times=1, Retry_After="0")
    rows.push_to_hub(f"{USER}/stormy")
    assert hub.sent("POST", "/preupload/") == 3, "the client asked once more"
    hub.fail(429, "/api/datasets", method="GET")
    with pytest.raises(HfHubHTTPError):
        HfApi().dataset_info(f"{USER}/stormy")


def test_collections_hold_items_once(hub, rows):
    rows.push_to_hub(f"{USER}/kept")
    api = HfApi()
    first = api.create_collection("STAR", namespace=USER, private=True)
    again = api.create_collection("STAR", namespace=USER, exists_ok=True)
    assert first.slug == again.slug
    for _ in range(2):
        api.add_collection_item(first.slug, f"{USER}/kept", "dataset", note="the data", exists_ok=True)
    (item,) = api.get_collection(first.slug).items
    assert item.item_id == f"{USER}/kept" and item.note == "the data"
