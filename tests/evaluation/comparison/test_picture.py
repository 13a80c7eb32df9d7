import pytest

from measured import write_results
from star_hf.errors import ConfigError
from star_hf.evaluation.comparison.picture import draw_tradeoff
from star_hf.evaluation.results.results import load_results


pytest.importorskip("matplotlib")


@pytest.fixture
def models(tmp_path):
    base = {"strongreject": [1, 0] * 20, "jbb": [1, 0] * 20, "math500": [1, 1, 0, 0] * 10}
    folders = (
        write_results(tmp_path / "base", base, "base"),
        write_results(tmp_path / "tuned", base | {"jbb": [1] * 40}, "a $tuned$ <model>"),
    )
    return [load_results(folder) for folder in folders]


def test_the_picture_names_models_benchmarks_and_the_paper(models, tmp_path):
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none"}):
        text = draw_tradeoff(models, tmp_path / "new" / "tradeoff.svg").read_text()
    for words in (
        "base",
        "a $tuned$ &lt;model&gt;",
        "paper: star-1",
        "mean of strongreject, jbb",
        "mean of math500",
        "32b",
    ):
        assert words in text


def test_a_png_is_written(models, tmp_path):
    path = draw_tradeoff(models[:1], tmp_path / "one.png")
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000


def test_both_axes_need_a_benchmark_and_a_format_that_there_is(models, tmp_path):
    only = load_results(write_results(tmp_path / "only", {"jbb": [1, 0]}))
    with pytest.raises(ConfigError, match="needs both"):
        draw_tradeoff([only], tmp_path / "x.png")
    with pytest.raises(ConfigError, match=r"\.png"):
        draw_tradeoff(models, tmp_path / "x.docx")
