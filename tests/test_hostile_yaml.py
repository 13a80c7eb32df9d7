"""Recipes, policies, judges and profiles with anything in them: used, or refused with one message."""

import pytest
from hostile_yaml import WHOLE, hostile

from star_hf.errors import StarError
from star_hf.evaluation.grading.judges.loading import load_judge
from star_hf.evaluation.tasks.profiles import load_evaluation
from star_hf.llm.endpoint import Endpoint
from star_hf.pipeline.config import load_config
from star_hf.policies import Taxonomy
from star_hf.training.recipe import read_options
from star_hf.utils.options import read_yaml, validated


RECIPE = """
profile: recommended
policies: mine/policies.yaml
prompts: mine
collect: {sources: [GPTFuzz], held_out: [XSTest], sources_dir: raw, questions: mine.jsonl, require_all: true,
          max_chars: 100}
deduplicate: {rule: one_per_group, prefer: [rarest], tfidf_threshold: 0.5, embedding_threshold: 0.8,
              encoder: {model: some/encoder, batch_size: 8}}
endpoints:
  classifier: {provider: openai, model: gpt-4o, temperature: 0.0, seed: 0, price: {input: 2.5, output: 10},
               extra_body: {a: {b: 1}}, batch: {at_least: 5}}
  teacher: {provider: vllm, model: r1, base_url: "http://localhost:8000/v1", max_tokens: 100, timeout_s: 5,
            pool: [{base_url: "http://localhost:8001/v1", concurrency: 2}]}
  scorer: {provider: local, model: smollm2}
select: {size: 10, strategy: random, seed: 3}
benign: {enabled: true, minimum: 4}
max_unusable: 0.1
scale: {executor: local, shards: 2}
"""
POLICIES = """
name: mine
version: "1"
language: en
other: None of these
categories:
  - {name: One, definition: d, objective: o, rules: [r, s], responses: [{when: w, do: d, kind: refuse}]}
  - {name: Two, definition: d, objective: o, rules: [r], responses: [{when: w, do: d, kind: comply}]}
"""
JUDGE = """
name: mine
family: qwen3guard
controversial: safe
endpoint: {provider: vllm, model: guard, base_url: "http://localhost:8000/v1", concurrency: 3, max_tokens: 50}
"""
PROFILE = """
profile: paper
name: mine
generation: {temperature: 0.5, top_p: 0.9, max_tokens: 100, samples: 2, seed: 1}
benchmarks: {xstest: {samples: 1}, aime24: {max_tokens: 200, temperature: 1.0}}
"""
TRAINING = """
base: other.yaml
model_name_or_path: some/model
learning_rate: 1.0e-5
datasets: [{path: some/data, split: train}]
global_batch: 8
"""


def _recipe_with_options(path):
    load_config(path, collect__questions="mine.jsonl", select__size=5, endpoints__scorer__model="x")


FORMS = {
    "recipe": (RECIPE, lambda path: load_config(path).batched()),
    "recipe and options": (RECIPE, _recipe_with_options),
    "policies": (POLICIES, Taxonomy.load),
    "judge": (JUDGE, load_judge),
    "profile": (PROFILE, lambda path: load_evaluation(str(path))),
    "training": (TRAINING, read_options),
    "endpoint": ("provider: vllm\nmodel: m\nbase_url: http://x\nseed: 1\n",
                 lambda path: validated(Endpoint, {**read_yaml(path), "model": "m"}, path)),
}  # fmt: skip


def refused(form: str, content: bytes, folder) -> str | None:
    """The message if a form refuses a file; anything but a message of ours is raised."""
    path = folder / "hostile.yaml"
    path.write_bytes(content)
    (folder / "other.yaml").write_text("max_length: 100\n")
    try:
        FORMS[form][1](path)
    except StarError as error:
        return str(error)
    return None


@pytest.mark.parametrize("form", FORMS)
def test_good_files_are_used(tmp_path, form):
    assert refused(form, FORMS[form][0].encode(), tmp_path) is None


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.long)])
def test_hostile_files_are_used_or_refused(tmp_path, form, count):
    for number, content in enumerate(hostile(FORMS[form][0], seed=count, count=count)):
        message = refused(form, content, tmp_path)
        assert message is None or len(message) < 10_000, number


@pytest.mark.parametrize("form", ["recipe", "policies"])
def test_files_that_are_hostile_as_a_whole_are_refused(tmp_path, form):
    messages = [refused(form, content, tmp_path) for content in WHOLE]
    assert all(message and len(message) < 1000 for message in messages)
