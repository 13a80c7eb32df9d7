import pytest

from star_hf.errors import ConfigError
from star_hf.pipeline.config import load_config
from star_hf.utils.paths import project_folder


RECIPES = sorted((project_folder("recipes") / "data").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_the_project_is_valid(recipe):
    config = load_config(recipe)
    for _, endpoint in config.endpoints:
        assert endpoint.identity()


def test_recipes_are_there():
    assert {"star_1", "star_1_paper", "demo"} <= {path.stem for path in RECIPES}


def test_the_default_is_the_papers_models_with_judges_at_temperature_0():
    config = load_config()
    assert config.profile == "recommended" and config.strategy == "coverage"
    assert config.endpoints.scorer.model == config.endpoints.classifier.model == "gpt-4o-2024-11-20"
    assert config.endpoints.scorer.temperature == 0
    teacher = config.endpoints.teacher
    assert (teacher.model, teacher.provider) == ("deepseek-ai/DeepSeek-R1", "hf")
    assert (teacher.temperature, teacher.top_p, teacher.max_tokens) == (0.6, 0.7, 8000)


def test_the_paper_profile_samples_its_judges_and_selects_as_published():
    config = load_config(profile="paper")
    assert config.endpoints.scorer.temperature is None and config.strategy == "paper"


def test_options_override_the_recipe(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("profile: paper\nselect: {size: 5}\n")
    config = load_config(recipe, profile="recommended", collect__require_all=True, policies=None)
    assert config.profile == "recommended" and config.collect.require_all and config.select.size == 5


def test_paths_of_a_recipe_are_relative_to_it(tmp_path):
    recipe = tmp_path / "r.yaml"
    ours = "questions: q.txt, held_out_questions: held.txt, sources_dir: /data/raw"
    recipe.write_text(f"policies: mine.yaml\nprompts: prompts\ncollect: {{{ours}}}\n")
    config = load_config(recipe)
    assert (config.policies, config.prompts) == (tmp_path / "mine.yaml", tmp_path / "prompts")
    assert config.collect.questions == tmp_path / "q.txt"
    assert config.collect.held_out_questions == tmp_path / "held.txt"
    assert str(config.collect.sources_dir) == "/data/raw"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("select: {sise: 5}", "`select.sise` is not an option. Did you mean `size`?"),
        ("profil: paper", "`profil` is not an option. Did you mean `profile`?"),
        ("endpoints: {teacher: {model: m, temprature: 1}}", "Did you mean `temperature`?"),
        ("endpoints: {teacher: {model: m, price: {inputs: 1, output: 1}}}", "Did you mean `input`?"),
        ("endpoints: {teachr: {model: m}}", "Did you mean `teacher`?"),
        ("select: {size: many}", "`select.size`: Input should be a valid integer"),
        ("profile: paper\ndeduplicate: {rule: one_per_group}", "`deduplicate.rule: one_per_group` is not the paper's"),
        ("profile: fast", "`profile`: Input should be 'paper' or 'recommended'"),
        ("endpoints: {teacher: {model: m, base_url: 'https://me:secret@host/v1'}}", "must not carry a user name"),
        ("- a\n- b", "holds a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, text, expected):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(recipe)
    assert expected in str(caught.value) and str(recipe) in str(caught.value)
    assert "secret" not in str(caught.value).replace("must not", "")


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "nowhere.yaml")


def test_a_wrong_option_of_a_pool_is_named(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("endpoints: {scorer: {model: m, name: n, pool: [{base_ur: http://a/v1}]}}")
    with pytest.raises(ConfigError, match="Did you mean `base_url`"):
        load_config(path)


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("false", False), ("{at_least: 5}", True)])
def test_a_batch_is_switched_on_in_a_recipe(tmp_path, said, meant):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"endpoints: {{scorer: {{model: m, batch: {said}}}}}")
    assert (load_config(path).endpoints.scorer.batch is not None) is meant


def test_batches_are_for_the_providers_that_have_them():
    endpoints = load_config().batched().endpoints
    assert endpoints.scorer.batch is not None and endpoints.teacher.batch is None
    assert endpoints.scorer.identity() == load_config().endpoints.scorer.identity()


def test_an_encoder_is_a_model_a_graph_or_an_endpoint(tmp_path):
    def encoder(said):
        (tmp_path / "recipe.yaml").write_text(f"deduplicate:\n  encoder: {said}\n")
        return load_config(tmp_path / "recipe.yaml").deduplicate.encoder

    assert encoder("BAAI/bge-small-en-v1.5") == encoder("{model: BAAI/bge-small-en-v1.5}")
    assert encoder("onnx:some/model") == encoder("{model: some/model, backend: onnx}")
    asked = encoder("openai:text-embedding-3-small").endpoint
    assert asked == encoder("{endpoint: {model: text-embedding-3-small}}").endpoint
    assert asked.rate.input == 0.02
    for said, problem in {
        "{endpoint: {modle: m}}": "Did you mean `model`",
        "{modle: m}": "Did you mean `model`",
        "{model: m, endpoint: {model: m}}": "goes with `batch_size` and `languages` only",
        "{backend: onnx}": "needs a `model`",
        "local:SmolLM2-135M-Instruct": "makes no vectors",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            encoder(said)
