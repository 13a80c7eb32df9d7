import pytest

from star_hf.errors import ConfigError
from star_hf.evaluation.tasks.profiles import load_evaluation


def test_what_a_benchmark_says_comes_before_the_rest_and_an_option_before_both(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "profile: paper\ngeneration: {temperature: 0.5, max_tokens: 100}\nbenchmarks: {aime24: {samples: 4}}\n"
    )
    mine = load_evaluation(str(path))
    assert (mine.name, mine.profile) == ("mine", "paper")
    assert mine.sampling("math500").samples == 1
    sampling = mine.sampling("aime24", max_tokens=7, samples=None)
    assert (sampling.temperature, sampling.samples, sampling.max_tokens, sampling.top_p) == (0.5, 4, 7, 1.0)
    assert mine.sampling("aime24", samples=2).samples == 2


def test_the_papers_limits():
    paper = load_evaluation("paper")
    limits = {name: paper.sampling(name).max_tokens for name in ("strongreject", "aime24", "gpqa_diamond", "mmlu_pro")}
    assert limits == {"strongreject": 8000, "aime24": 16384, "gpqa_diamond": 32768, "mmlu_pro": 4096}


def test_several_samples_of_the_likeliest_answer_are_refused():
    with pytest.raises(ConfigError, match="all the same answer"):
        load_evaluation("paper").sampling("aime24", samples=4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile: [", "not valid YAML"),
        ("- paper", "holds a list"),
        ("profile: best", "`profile`"),
        ("profile: paper\ngeneration: {heat: 1}", "`generation.heat` is not an option"),
        ("profile: paper\ngeneration: {temperature: -1}", "generation.temperature"),
        ("profile: paper\nbenchmarks: {aime25: {samples: 4}}", "no benchmark 'aime25'"),
    ],
)
def test_a_file_that_says_something_else_is_told(text, words, tmp_path):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_evaluation(str(tmp_path / "mine.yaml"))
    with pytest.raises(ConfigError, match="paper, recommended"):
        load_evaluation("nowhere")
