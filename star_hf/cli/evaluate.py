"""`star-hf evaluate`, and `star-hf lighteval`, which runs lighteval with the STAR-1 tasks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .panels import EVALUATION
from .tables.layout import say


if TYPE_CHECKING:
    from ..evaluation.generation.models import Model


__all__ = ["app", "model_of"]

app = typer.Typer()

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        help="A folder, a Hub id, or a GGUF file (on the Hub: org/repo/file.gguf). "
        "With --base-url, --provider or --endpoint: the name on the server.",
    ),
]
JudgeSpecs = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="JUDGE",
        help="NAME[:MODEL][@URL], a model's name, or a YAML file. Can be repeated. See `star-hf judge list`.",
    ),
]
ProfileName = Annotated[str, typer.Option(help="`recommended`, `paper`, or a YAML file like those in recipes/eval/.")]
Output = Annotated[Path | None, typer.Option(help="The results folder.", show_default="results/<model>/<profile>")]
BaseUrl = Annotated[str | None, typer.Option(help="URL of an OpenAI-compatible server with the model.")]
ProviderName = Annotated[
    str | None, typer.Option(help="The provider: vllm (no key), openai, hf, deepseek ...", show_default="vllm")
]
EndpointFile = Annotated[
    Path | None, typer.Option(help="A YAML file with the endpoint, instead of --base-url and --provider.")
]
Fingerprint = Annotated[str | None, typer.Option(help="A label of the server's weights. Change it when they change.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.")]
MaxTokens = Annotated[int | None, typer.Option(help="Maximum tokens per response, reasoning included.", min=1)]
SystemPrompt = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Send this text as the system prompt, such as the one that is deployed."),
]
ExpectsReasoning = Annotated[
    bool,
    typer.Option(
        "--expects-reasoning", help="The model always reasons first: a response without `</think>` has no answer."
    ),
]
BatchSize = Annotated[int, typer.Option(help="Responses generated at once by a model in this process.", min=1)]
DType = Annotated[str, typer.Option(help="Data type of a model in this process.")]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda, mps, or auto over all GPUs.", show_default="cuda if available")
]
Concurrency = Annotated[int, typer.Option(help="Requests in flight to a server.", min=1)]
BudgetUsd = Annotated[
    float | None,
    typer.Option(help="Maximum cost of this command in dollars: model and judges. It stops before.", min=0),
]


@app.command(rich_help_panel=EVALUATION)
def evaluate(
    model: ModelName,
    tasks: Annotated[
        str,
        typer.Option(
            help="Benchmarks, groups and suites' files, separated by commas: star1:safety, xstest, suite.yaml ..."
        ),
    ] = "star1:safety",
    judge: JudgeSpecs = None,
    profile: ProfileName = "recommended",
    output: Output = None,
    base_url: BaseUrl = None,
    provider: ProviderName = None,
    endpoint: EndpointFile = None,
    fingerprint: Fingerprint = None,
    revision: Revision = None,
    data_dir: Annotated[Path | None, typer.Option(help="Local copies of the data: DIR/NAME/FILE.")] = None,
    limit: Annotated[int | None, typer.Option(help="Maximum items per benchmark.", min=1)] = None,
    samples: Annotated[int | None, typer.Option(help="Responses per item.", min=1)] = None,
    max_tokens: MaxTokens = None,
    attack: Annotated[
        str | None, typer.Option(help="Attack on safety prompts: prefill, hijack, or FILE.py:FUNCTION of your own.")
    ] = None,
    system_prompt: SystemPrompt = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run the code that the model writes (HumanEval).")
    ] = False,
    sandbox: Annotated[
        str,
        typer.Option(
            metavar="LEVEL",
            help="The least confinement of that code: isolated, restricted, or weak (only in a container of its own).",
        ),
    ] = "restricted",
    expects_reasoning: ExpectsReasoning = False,
    judge_cut_answers: Annotated[
        bool,
        typer.Option(
            "--judge-cut-answers",
            help="Judge an answer that the token limit cut by its beginning, for judges that read no more.",
        ),
    ] = False,
    batch_size: BatchSize = 8,
    dtype: DType = "auto",
    device: Device = None,
    concurrency: Concurrency = 64,
    budget: BudgetUsd = None,
    max_failures: Annotated[
        float, typer.Option(help="Accepted share of responses without a value, per benchmark.", min=0, max=1)
    ] = 0.1,
) -> None:
    """Measure a model's safety, over-refusal and reasoning, with intervals and counts of failures.

    If it is interrupted, run the same command again: nothing is generated or judged twice.

    **Example:** `star-hf evaluate --model UCSC-VLAA/STAR1-R1-Distill-8B --tasks star1:safety
    --judge llama-guard-3@http://localhost:8001/v1 --judge xstest`
    """
    from ..evaluation.evaluate import Options, results_folder
    from ..evaluation.evaluate import evaluate as run_evaluation
    from ..evaluation.grading.confinement import require
    from ..evaluation.grading.judges import load_judge
    from ..evaluation.results.results import check_complete
    from ..evaluation.tasks.profiles import load_evaluation
    from ..utils.files import read_text
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
        sandbox=sandbox,
        expects_reasoning=expects_reasoning,
        system_prompt=None if system_prompt is None else read_text(system_prompt, "the system prompt"),
        judge_cut_answers=judge_cut_answers,
        budget_usd=budget,
    )
    there = {"base_url": base_url, "provider": provider, "endpoint": endpoint, "fingerprint": fingerprint}
    here = {"revision": revision, "batch_size": batch_size, "dtype": dtype, "device": device}
    subject = model_of(model, **there, concurrency=concurrency, **here)
    if allow_code_execution:
        say(f"Model code runs {require(sandbox)}")
    folder = output or results_folder(model, evaluation.name, options.attack, prompt=system_prompt)
    wanted = [name.strip() for name in tasks.split(",") if name.strip()]
    results = run_evaluation(subject, wanted, folder, evaluation=evaluation, judges=judges, options=options)
    show_results(results)
    say(f"Written to {folder}")
    check_complete(results, max_failures)


def model_of(
    model: str,
    *,
    base_url: str | None,
    provider: str | None,
    endpoint: Path | None,
    fingerprint: str | None,
    concurrency: int,
    **here: Any,
) -> "Model":
    """The model that the options of a command name: behind an endpoint, or in this process with the options `here`."""
    if not (base_url or provider or endpoint or model.endswith(".gguf")):
        from ..evaluation.generation.in_process import InProcess

        return InProcess(model, **here)
    from ..evaluation.generation.models import Served
    from ..llm import Endpoint
    from ..utils.options import read_yaml, validated

    preset = provider or ("local" if model.endswith(".gguf") and base_url is None else "vllm")
    given: dict[str, Any] = {"provider": preset, "base_url": base_url, "concurrency": concurrency}
    remedy = "docs/model_calls.md lists the options of an endpoint."
    if endpoint is not None:
        given = read_yaml(endpoint, remedy)
    return Served(validated(Endpoint, {**given, "model": model}, endpoint or "The endpoint", remedy), fingerprint)


@app.command(
    rich_help_panel=EVALUATION,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    add_help_option=False,
)
def lighteval(context: typer.Context) -> None:
    """Run lighteval with the STAR-1 tasks. All arguments are passed to lighteval.

    **Example:** `star-hf lighteval accelerate "model_name=models/tuned,dtype=bfloat16" star1:strongreject`
    """
    from ..evaluation.integrations.lighteval_launcher import launch

    launch(context.args)
