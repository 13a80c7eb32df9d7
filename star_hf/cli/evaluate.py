"""`star-hf evaluate`, and `star-hf lighteval`, which is lighteval with what it needs to run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from ..errors import ConfigError
from .panels import EVALUATION


if TYPE_CHECKING:
    from ..evaluation.generation.models import Model


__all__ = ["app"]

app = typer.Typer()
console = Console()


@app.command(rich_help_panel=EVALUATION)
def evaluate(
    model: Annotated[
        str, typer.Option(help="A folder, a Hub id, or with --base-url or --provider the name that a server knows.")
    ],
    tasks: Annotated[
        str, typer.Option(help="Benchmarks and groups, by commas: star1:safety, star1:reasoning, star1:xstest ...")
    ] = "star1:safety",
    judge: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JUDGE",
            help="NAME[:MODEL][@URL], a model's name, or a YAML file; again for more. See `star-hf judge list`.",
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="`recommended`, `paper`, or a YAML file like those in recipes/eval/.")
    ] = "recommended",
    output: Annotated[
        Path | None, typer.Option(help="The results folder.", show_default="results/<model>/<profile>")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="An OpenAI-compatible server that has the model.")] = None,
    provider: Annotated[
        str | None,
        typer.Option(help="Whose server: vllm (no key), openai, hf, deepseek ...", show_default="vllm"),
    ] = None,
    endpoint: Annotated[Path | None, typer.Option(help="An endpoint as YAML, in place of the two.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Your mark for a server's weights, changed when they change.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Local copies of the data: DIR/NAME/FILE.")] = None,
    limit: Annotated[int | None, typer.Option(help="Items per benchmark.", min=1)] = None,
    samples: Annotated[int | None, typer.Option(help="Answers per item.", min=1)] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens per answer, thought included.", min=1)] = None,
    attack: Annotated[
        str | None, typer.Option(help="On safety prompts: prefill, hijack, or FILE.py:FUNCTION of your own.")
    ] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run the code that the model writes (HumanEval).")
    ] = False,
    expects_reasoning: Annotated[
        bool,
        typer.Option("--expects-reasoning", help="The model always thinks first: no </think> is no answer."),
    ] = False,
    batch_size: Annotated[int, typer.Option(help="Answers at once, of a model in process.", min=1)] = 8,
    dtype: Annotated[str, typer.Option(help="Arithmetic of a model in process.")] = "auto",
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, mps, or auto over all GPUs.", show_default="cuda where there is one")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Requests in flight to a server.", min=1)] = 64,
    max_failures: Annotated[
        float, typer.Option(help="Accepted share of answers without a value, per benchmark.", min=0, max=1)
    ] = 0.1,
) -> None:
    """Measure a model's safety, over-refusal and reasoning, with intervals and with what could not be measured.

    May be killed at any moment: the same command goes on, and nothing is generated or judged twice.

    **Example:** `star-hf evaluate --model UCSC-VLAA/STAR1-R1-Distill-8B --tasks star1:safety
    --judge llama-guard-3@http://localhost:8001/v1 --judge xstest`
    """
    from ..evaluation.evaluate import Options, results_folder
    from ..evaluation.evaluate import evaluate as run_evaluation
    from ..evaluation.grading.judges import load_judge
    from ..evaluation.results.results import check_complete
    from ..evaluation.tasks.profiles import load_evaluation
    from .tables.results import show_results

    evaluation = load_evaluation(profile)
    judges = [load_judge(spec) for spec in judge or ()]
    options = Options(
        data_dir=data_dir,
        limit=limit,
        samples=samples,
        max_tokens=max_tokens,
        attack=None if attack == "none" else attack,
        allow_code_execution=allow_code_execution,
        expects_reasoning=expects_reasoning,
    )
    if base_url or provider or endpoint:
        subject = _served(model, base_url, provider, endpoint, fingerprint, concurrency)
    else:
        from ..evaluation.generation.in_process import InProcess

        subject = InProcess(model, revision, batch_size=batch_size, dtype=dtype, device=device)
    folder = output or results_folder(model, evaluation.name, options.attack)
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    results = run_evaluation(subject, wanted, folder, evaluation=evaluation, judges=judges, options=options)
    show_results(results, console)
    console.print(f"Written to {folder}", markup=False, highlight=False, soft_wrap=True)
    check_complete(results, max_failures)


def _served(
    model: str,
    base_url: str | None,
    provider: str | None,
    endpoint: Path | None,
    fingerprint: str | None,
    concurrency: int,
) -> "Model":
    import yaml
    from pydantic import ValidationError

    from ..evaluation.generation.models import Served
    from ..llm import Endpoint

    given: dict[str, Any] = {"provider": provider or "vllm", "base_url": base_url, "concurrency": concurrency}
    try:
        if endpoint is not None:
            given = yaml.safe_load(endpoint.read_text(encoding="utf-8"))
        return Served(Endpoint.model_validate({**given, "model": model}), fingerprint)
    except OSError as error:
        raise ConfigError(f"{endpoint}: {error.strerror}.", "Give the path of an endpoint's YAML file.") from None
    except (yaml.YAMLError, TypeError) as error:
        raise ConfigError(f"{endpoint} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(
            f"The endpoint's {'.'.join(map(str, problem['loc'])) or 'values'}: {problem['msg']}.",
            "docs/model_calls.md shows what an endpoint may say.",
        ) from None


@app.command(
    rich_help_panel=EVALUATION,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def lighteval(context: typer.Context) -> None:
    """Run lighteval with the STAR-1 tasks and what its release needs to run: all arguments are lighteval's own.

    **Example:** `star-hf lighteval accelerate "model_name=models/tuned,dtype=bfloat16" star1:strongreject`
    """
    from ..evaluation.integrations.lighteval_launcher import launch

    launch(context.args)
