"""Publishing a run: what lies on the Hub afterwards, what people's edits become, and what can go wrong on the way."""

import json

import pytest
from datasets import get_dataset_config_names, load_dataset
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard, HfApi

from hub import READER, STRANGER, USER, Repo
from star_hf.errors import ConfigError, IncompleteRunError, StarError
from star_hf.hub import release as release_module
from star_hf.hub.dataset_release import check_run, dataset_release
from star_hf.hub.release import MANIFEST, plan, publish
from star_hf.pipeline.run import Run
from star_hf.schema import BENIGN, PROVENANCE, SCORED


NAME = f"{USER}/small"


@pytest.fixture(scope="session")
def nothing(tmp_path_factory):
    """A folder of benchmarks that has none, so that the audit asks no network."""
    return tmp_path_factory.mktemp("nothing")


@pytest.fixture(scope="module")
def release(finished, nothing):
    return dataset_release(finished, NAME, sources_dir=nothing)


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_what_is_published_loads_equal_in_every_configuration(hub, finished, release):
    done = publish(release, NAME)
    assert hub.repo("datasets", NAME).private, "private unless told otherwise"
    assert get_dataset_config_names(NAME) == ["benign", "default", "provenance"]
    for config, features in {"default": SCORED, "benign": BENIGN, "provenance": PROVENANCE}.items():
        rows = load_dataset(NAME, config, split="train")
        local = load_dataset(str(finished / "dataset"), config, split="train")
        assert rows.features == features and rows[:] == local[:] and len(rows) > 0
    assert load_dataset(NAME, split="train").features == SCORED, "without a name it is the rows to train on"
    first = next(iter(load_dataset(NAME, split="train", streaming=True, revision=done.tag)))
    assert first == Run(finished).table("select")[0]
    assert any(agent.startswith("star_hf/") for agent in hub.agents)


def test_the_scored_rows_can_be_published_as_well(hub, finished, nothing):
    publish(dataset_release(finished, NAME, sources_dir=nothing, scored=True), NAME)
    scored = Run(finished).table("score")
    assert load_dataset(NAME, "scored", split="train")[:] == scored[:] and len(scored) > 12
    assert load_dataset(NAME, split="train").features == SCORED
    assert f"| `scored` | {len(scored)} |" in DatasetCard.load(NAME).text


def test_data_card_and_hashes_appear_in_one_commit(hub, release):
    publish(release, NAME)
    repo = hub.repo("datasets", NAME)
    assert [title for _, title in repo.commits.values()] == [
        "initial commit",
        f"Publish small with star_hf {json.loads(release.manifest())['star_hf']}",
    ]
    manifest = json.loads(repo.files()[MANIFEST])
    assert set(repo.files()) == {*manifest["files"], "README.md", MANIFEST}
    assert manifest["tables"]["default"]["rows"] == 12 and manifest["stages"]["collect"]["rows_in"] == 40


def test_the_card_answers_what_a_reviewer_asks(hub, finished, release):
    publish(release, NAME)
    card = DatasetCard.load(NAME, ignore_metadata_errors=False)
    text, data = card.text, card.data.to_dict()
    records = Run(finished).records
    for stage, record in records.items():
        assert f"| {stage} | {record.rows_in} | {record.rows_out} |" in text
    assert f'load_dataset("{NAME}", split="train")' in text and f'load_dataset("{NAME}", "benign"' in text
    assert "Content warning" in text and "temperature 0.5" in text and "assets/categories_by_sources.png" in text
    assert "removed: the same question, 8 words in a row or a TF-IDF cosine from 0.95." in text
    assert "bench" in text and "exact_contamination" in text.replace("\\", "")
    assert "**Not for commercial use**: ALERT" in text and "cc-by-nc-sa-4.0" in text
    assert records["score"].notes["prompts"]["score"] in text and records["score"].notes["policies"] in text
    assert "star-hf build --config recipe.yaml" in text and "@article{wang2025star1" in text
    assert data["license"] == "other" and data["license_name"] and data["size_categories"] == ["n<1K"]
    assert data["license_link"] == f"https://huggingface.co/datasets/{NAME}#sources-and-licences"
    assert "## Sources and licences" in text, "where the link leads"
    assert {"star_hf", "safety", "not-for-all-audiences"} <= set(data["tags"]) and data["language"] == ["en"]
    assert "PKU-Alignment/BeaverTails" in data["source_datasets"]
    assert set(MetadataConfigs.from_dataset_card_data(card.data)) == {"default", "benign", "provenance"}
    assert all(info["splits"][0]["num_examples"] for info in data["dataset_info"])


def test_the_published_recipe_builds_again_and_names_no_folder_of_this_machine(hub, finished, release, tmp_path):
    from star_hf.pipeline.config import load_config

    publish(release, NAME)
    files = hub.repo("datasets", NAME).files()
    assert not [path for path, data in files.items() if str(finished.parent).encode() in data or b"127.0.0.1" in data]
    (tmp_path / "recipe.yaml").write_bytes(files["recipe.yaml"])
    assert load_config(tmp_path / "recipe.yaml").select.size == 12
    needs = release.card.sections["regenerate"]
    assert "`questions.jsonl`, `bench.jsonl`, `endpoints.classifier.base_url`" in needs, "what else it takes is said"


SECRET = "machine-of-ours"
PRIVATE = {
    "base_url": f"https://{SECRET}.invalid/v1",
    "name": SECRET,
    "api_key_env": "MACHINE_OF_OURS",
    "api_version": SECRET,
    "extra_body": {"user": SECRET},
    "price": {"input": 123.25, "output": 1},
    "pool": [{"base_url": f"https://{SECRET}.invalid/v1", "api_key_env": "MACHINE_OF_OURS"}],
}


def test_only_listed_options_of_a_recipe_are_published():
    """Each option that there is has a secret value, and what is published is looked through."""
    from star_hf.hub.dataset_release import _recipe
    from star_hf.pipeline.card import _needs
    from star_hf.pipeline.config import BuildConfig

    endpoint = {"model": f"/home/{SECRET}/models/our-model", "temperature": 0.5, "max_tokens": 77, **PRIVATE}
    config = BuildConfig.model_validate(
        {
            "policies": f"/home/{SECRET}/policies.yaml",
            "prompts": f"/home/{SECRET}/prompts",
            "collect": {"sources_dir": f"/home/{SECRET}", "questions": f"/home/{SECRET}/questions.jsonl"},
            "deduplicate": {"encoder": {"endpoint": {**endpoint, "model": "embedder"}}, "tfidf_threshold": 0.55},
            "endpoints": dict.fromkeys(("classifier", "teacher", "scorer", "rewriter"), endpoint),
            "scale": {"executor": "slurm", "options": {"partition": SECRET, "mail_user": SECRET}},
            "select": {"size": 12},
        }
    )
    published = _recipe(config).decode()
    assert SECRET not in published and SECRET.upper().replace("-", "_") not in published and "123.25" not in published
    for said in ("our-model", "temperature: 0.5", "max_tokens: 77", "size: 12", "0.55", "policies.yaml", "prompts"):
        assert said in published, said
    needs = _needs(config)
    assert "endpoints.teacher.extra_body" in needs and "deduplicate.encoder.endpoint.base_url" in needs


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1"),
        ("/mnt/ours/enc", "enc"),
        ("./ours/enc/", "enc"),
        ("../enc", "enc"),
        ("~/enc", "enc"),
        ("C:\\Users\\me\\enc", "enc"),
        ("gpt-4o", "gpt-4o"),
    ],
)
def test_a_model_in_a_folder_is_published_by_its_name_alone(model, shown):
    from star_hf.hub.dataset_release import _public_name

    assert _public_name(model) == shown


@pytest.mark.parametrize(
    ("endpoint", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("http://10.0.0.5:8000/v1", "own server"),
        ("https://machine-of-ours.invalid/v1", "own server"),
        ("teacher", "teacher"),
        ("local", "local"),
    ],
)
def test_provenance_names_no_server_of_ones_own(endpoint, shown):
    from star_hf.pipeline.export import _public

    assert _public(endpoint) == {"endpoint": shown}


def test_publishing_the_same_again_changes_nothing(hub, release):
    first, again = publish(release, NAME), publish(release, NAME)
    assert first.commit == again.commit and first.tag == again.tag and not again.plan.add
    assert list(hub.repo("datasets", NAME).tags) == [first.tag]


def test_a_changed_run_updates_in_place_and_keeps_what_people_wrote(hub, run, nothing):
    publish(dataset_release(run, NAME, sources_dir=nothing), NAME, private=False)
    repo = hub.repo("datasets", NAME)
    text = repo.files()["README.md"].decode()
    text = text.replace("pretty_name: small", "pretty_name: Our small set\nviewer: false")
    text = text.replace("<!-- star_hf: fields", "Written by hand.\n\n<!-- star_hf: fields")
    text = text.replace("ask before you pass these rows on", "they are ours, take them")
    repo.edit("README.md", text.encode())
    repo.edit("notes.txt", b"ours")
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["stages"]["rewrite"]
    manifest["config"]["benign"]["enabled"] = False
    (run / "manifest.json").write_text(json.dumps(manifest))
    from star_hf.pipeline.config import BuildConfig
    from star_hf.pipeline.export import export

    export(Run(run), BuildConfig.model_validate(manifest["config"]))
    done = publish(dataset_release(run, NAME, sources_dir=nothing), NAME)
    files, card = repo.files(), DatasetCard.load(NAME)
    assert done.plan.card.kept == ("licences", "metadata.pretty_name", "metadata.viewer")
    assert "benign/train.parquet" not in files and files["notes.txt"] == b"ours" and not repo.private
    assert card.data["viewer"] is False and card.data.pretty_name == "Our small set"
    assert "Written by hand." in card.text and "they are ours, take them" in card.text
    assert "benign twins" not in card.text.split("## Fields")[0]
    assert set(MetadataConfigs.from_dataset_card_data(card.data)) == {"default", "provenance"}
    replaced = publish(dataset_release(run, NAME, sources_dir=nothing), NAME, overwrite_edits=True)
    card = DatasetCard.load(NAME)
    assert replaced.plan.card.kept == () and "they are ours" not in card.text and card.data.pretty_name == "small"
    assert "Written by hand." in card.text and len(repo.tags) == 2


def test_a_dry_run_shows_what_would_be_pushed_and_pushes_nothing(hub, release):
    change = plan(release, NAME)
    assert change.parent is None and change.private and set(change.add) == {*release.files, "README.md", MANIFEST}
    assert not hub.repos and not hub.sent("POST", "(commit|create|preupload)") and not hub.sent("PUT", "")


def test_the_gate_is_there_before_the_data_and_the_public_after_it(hub, release):
    hub.fail(403, "/commit/")
    with pytest.raises(ConfigError):
        publish(release, NAME, private=False, gated="auto")
    repo = hub.repo("datasets", NAME)
    assert repo.gated == "auto" and repo.private and not repo.files()
    publish(release, NAME, private=False, gated="auto")
    assert not repo.private and repo.gated == "auto" and "default/train.parquet" in repo.files()


def test_a_public_repository_becomes_private_when_that_is_asked_for(hub, release):
    publish(release, NAME, private=False)
    repo = hub.repo("datasets", NAME)
    assert not repo.private and not publish(release, NAME).plan.private, "it stays as it is unless asked"
    assert publish(release, NAME, private=True).plan.private and repo.private


def test_it_lands_in_the_owners_collection_once(hub, release):
    for _ in range(2):
        publish(release, NAME, collection="STAR data")
    (collection,) = hub.collections.values()
    assert [item["id"] for item in collection["items"]] == [NAME] and collection["private"]


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "no token found"),
        (READER, "the token of tester is read-only"),
        (STRANGER, "this token has no permission"),
        ("hf_x", "is not valid"),
    ],
)
def test_a_token_that_may_not_write_is_named_and_nothing_is_made(hub, release, monkeypatch, token, words):
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(ConfigError, match=words) as refused:
        publish(release, NAME)
    assert not hub.repos and (token or "hf_") not in refused.value.message
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    publish(release, NAME)


def test_a_repository_of_another_type_by_that_name_is_left_alone(hub, release):
    HfApi().create_repo(NAME)
    with pytest.raises(ConfigError, match="tester/small is a model, but the release is a data set"):
        publish(release, NAME)
    assert set(hub.repos) == {("models", NAME)} and not hub.repo("models", NAME).files()


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda text: text.replace("license: other", "license: [other"), "not valid YAML"),
        (lambda text: text.replace("<!-- /star_hf: funnel -->", ""), "star_hf: funnel .* has no counterpart"),
        (lambda text: text + text[text.index("<!-- star_hf: fields") :], "it has the section `fields` twice"),
    ],
)
def test_a_card_broken_by_hand_is_named_and_the_same_command_finishes_once_it_is_mended(hub, release, edit, words):
    publish(release, NAME)
    repo = hub.repo("datasets", NAME)
    whole = repo.files()["README.md"]
    repo.edit("README.md", edit(whole.decode()).encode())
    before = repo.sha()
    with pytest.raises(StarError, match=f"The card of the data set {NAME} is broken: .*{words}"):
        publish(release, NAME)
    assert repo.sha() == before
    publish(release, NAME, overwrite_edits=True)
    assert repo.files()["README.md"] == whole


def test_a_damaged_manifest_is_named_and_its_remedy_works(hub, release):
    publish(release, NAME)
    repo = hub.repo("datasets", NAME)
    whole = repo.files()
    repo.edit(MANIFEST, whole[MANIFEST][:-99])
    with pytest.raises(StarError, match=f"{MANIFEST} of the data set {NAME} is damaged") as refused:
        publish(release, NAME)
    assert refused.value.remedy == f"Delete {MANIFEST} there and publish again."
    HfApi().delete_file(MANIFEST, NAME, repo_type="dataset")
    publish(release, NAME)
    assert repo.files() == whole


def test_a_card_that_is_not_ours_keeps_its_words_and_gets_ours(hub, release):
    repo = hub.repos["datasets", NAME] = Repo()
    repo.edit("README.md", b"---\nlicense: mit\nconfigs: []\n---\n# Mine\r\n\r\nAll by hand.\r\n")
    done = publish(release, NAME)
    card = DatasetCard.load(NAME)
    assert card.text.startswith("\n# Mine") and "All by hand." in card.text and "## Sources and licences" in card.text
    assert card.data.license == "mit" and "metadata.license" in done.plan.card.kept
    assert len(card.data["configs"]) == 3, "the configurations follow from the files"
    assert load_dataset(NAME, split="train").num_rows == 12


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("path", ["/whoami", "/create", "/tree/", "/commit/", "/tag/"])
def test_a_hub_that_stumbles_is_asked_again(hub, release, no_pauses, status, path):
    hub.fail(status, path, times=2, Retry_After="0")
    publish(release, NAME)
    assert len(hub.repo("datasets", NAME).tags) == 1


def test_a_hub_that_stays_down_ends_the_command_and_the_same_one_finishes(hub, release, no_pauses):
    hub.fail(500, "/commit/", times=99)
    with pytest.raises(IncompleteRunError, match="answered 500 5 times"):
        publish(release, NAME)
    assert not hub.repo("datasets", NAME).files(), "nothing is half-published"
    uploads = hub.sent("PUT", "^/lfs/")
    hub.faults.clear()
    publish(release, NAME)
    assert hub.sent("PUT", "^/lfs/") == uploads, "what was uploaded is not uploaded again"


def test_when_the_tag_fails_after_the_data_the_same_command_finishes(hub, release, no_pauses):
    hub.fail(500, "/tag/", times=5)
    with pytest.raises(IncompleteRunError):
        publish(release, NAME)
    repo = hub.repo("datasets", NAME)
    assert "README.md" in repo.files() and not repo.tags
    done = publish(release, NAME)
    assert repo.tags == {done.tag: repo.sha()} and len(repo.commits) == 2


@pytest.mark.parametrize("status", [409, 412])
def test_a_lost_race_is_run_again(hub, release, status):
    hub.fail(status, "/commit/")
    publish(release, NAME)
    assert "default/train.parquet" in hub.repo("datasets", NAME).files()


def test_an_edit_that_comes_in_between_is_not_lost(hub, release, monkeypatch):
    publish(release, NAME)
    repo = hub.repo("datasets", NAME)
    repo.edit("default/train.parquet", b"damaged")
    look, looks = release_module.plan, []

    def edited_after_the_second_look(*arguments, **options):
        found = look(*arguments, **options)
        looks.append(found)
        if len(looks) == 2:
            repo.edit("README.md", repo.files()["README.md"] + b"\nIn between.\n")
        return found

    monkeypatch.setattr(release_module, "plan", edited_after_the_second_look)
    publish(release, NAME)
    assert len(looks) == 3 and repo.files()["README.md"].endswith(b"\nIn between.\n")
    assert repo.files()["default/train.parquet"] != b"damaged"


def test_others_that_keep_changing_it_end_the_command(hub, release, no_pauses):
    hub.fail(412, "/commit/", times=99)
    with pytest.raises(IncompleteRunError, match="others keep changing it"):
        publish(release, NAME)


def _edit_json(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def _damage(path):
    path.write_bytes(path.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda run: (run / "manifest.json").unlink(), "has no manifest.json"),
        (lambda run: (run / "manifest.json").write_text("{"), "manifest.json is damaged: it is not JSON"),
        (
            lambda run: _edit_json(run / "manifest.json", lambda data: data["stages"].pop("rewrite")),
            "is not finished. Missing stages: rewrite",
        ),
        (
            lambda run: _edit_json(run / "manifest.json", lambda data: data["stages"]["score"].update(rows_out=5)),
            "the tables of 'score' do not match the manifest",
        ),
        (lambda run: _damage(run / "6-select" / "rows.parquet"), "the tables of 'select'"),
        (lambda run: (run / "3-classify" / "removed.parquet").unlink(), "the tables of 'classify'"),
        (lambda run: (run / "dataset" / "benign" / "train.parquet").unlink(), "dataset/benign is missing"),
        (
            lambda run: (
                load_dataset("parquet", data_files=str(run / "dataset" / "default" / "train.parquet"))["train"]
                .select(range(3))
                .to_parquet(run / "dataset" / "default" / "train.parquet")
            ),
            "dataset/default is missing, or does not match the run",
        ),
    ],
)
def test_a_run_that_is_incomplete_or_edited_is_named(run, edit, words, capfd):
    check_run(run)
    assert capfd.readouterr().err == "", "a look is quiet, and leaves no copy of the rows in the cache"
    edit(run)
    with pytest.raises(StarError, match=words) as refused:
        check_run(run)
    assert "star-hf build" in refused.value.remedy or "Give a run's directory" in refused.value.remedy


def test_rows_that_were_searched_for_nothing_are_not_called_clean(run, nothing):
    own = {"held_out_questions": str(run / "gone.jsonl")}
    _edit_json(run / "manifest.json", lambda data: data["config"]["collect"].update(own))
    release = dataset_release(run, NAME, sources_dir=nothing)
    told = release.card.sections["contamination"]
    assert "not searched for text of StrongREJECT" in told and "none was found" not in told
    assert "HumanEval, gone, which could not be had" in told and "HumanEval, gone" in release.warnings[-1]


def test_contamination_refuses_unless_told_otherwise(hub, finished, tmp_path, caplog):
    question = Run(finished).table("select")[0]["question"]
    folder = tmp_path / "HarmBench-like" / "XSTest"
    folder.mkdir(parents=True)
    (folder / "xstest_prompts.csv").write_text(f'id,prompt,type,label,focus,note\n1,"{question}",x,safe,,\n')
    with pytest.raises(StarError, match="was not published: its audit found") as refused:
        dataset_release(finished, NAME, sources_dir=folder.parent)
    assert "XSTest" in refused.value.message and question not in str(refused.value)
    assert "--allow-findings" in refused.value.remedy and not hub.repos
    release = dataset_release(finished, NAME, sources_dir=folder.parent, allow_findings=True)
    told = release.card.sections["contamination"]
    assert "searched for text of XSTest at local copy" in told and "An audit of the published rows found" in told
    assert "none was found" not in told and "not searched for text of StrongREJECT" in told
    assert json.loads(release.manifest())["audit"]["default"]["ok"] is False
