"""`datasets_scripts/build_and_push.py`: from a recipe to a data set that loads, on servers on loopback."""

import importlib.util
import sys
from pathlib import Path

import pytest
import yaml
from datasets import get_dataset_config_names, load_dataset

from hub import USER
from model_server import ModelServer, star_answers
from star_hf.hub.verification import verify
from star_hf.pipeline.run import Run


ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "datasets_scripts" / "build_and_push.py"


@pytest.fixture(scope="module")
def script():
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("build_and_push", SCRIPT)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def recipe(finished, tmp_path):
    """A recipe file like that of the finished run, whose models answer on loopback."""
    with ModelServer(star_answers) as server:
        config = Run(finished).manifest["config"]
        for endpoint in config["endpoints"].values():
            endpoint["base_url"] = server.url
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
        yield tmp_path / "recipe.yaml"


@pytest.mark.parametrize("product", ["star_1", "star_41k"])
def test_a_product_is_built_and_published(hub, script, recipe, tmp_path, product):
    words = ["--recipe", str(recipe), "--repo_id", f"{USER}/{product}", "--product", product]
    words += ["--run_dir", str(tmp_path / product), "--sources_dir", str(tmp_path)]
    (options,) = script.HfArgumentParser(script.Arguments).parse_args_into_dataclasses(words)
    script.main(options)
    rows, run = load_dataset(f"{USER}/{product}", split="train"), Run(tmp_path / product)
    whole = product == "star_41k"
    assert len(rows) == (run.records["score"].rows_out if whole else 12)
    assert ("benign" in get_dataset_config_names(f"{USER}/{product}")) != whole
    assert hub.repo("datasets", f"{USER}/{product}").private
    assert verify(f"{USER}/{product}", sources_dir=tmp_path).ok


def test_its_header_names_what_it_imports():
    text = SCRIPT.read_text()
    assert text.startswith("# /// script\n") and '"transformers' in text and 'requires-python = ">=3.11"' in text
