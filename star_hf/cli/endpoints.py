"""`star-hf endpoints`: test the endpoints of a recipe, or of the providers with a key in the environment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ..errors import ConfigError
from ..utils.options import validated
from .tables.layout import console, new_table, say


if TYPE_CHECKING:
    from ..llm.endpoint import Endpoint
    from ..llm.http.probe import ProbeFinding


__all__ = ["app"]

app = typer.Typer(
    name="endpoints",
    help="Test the endpoints of a recipe, or every provider that you have a key for.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    """Test endpoints."""


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="Check the endpoints of this YAML recipe.")] = None,
    provider: Annotated[str | None, typer.Option(help="Check this provider.")] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask.")] = None,
    base_url: Annotated[str | None, typer.Option(help="URL of the server, if the provider has no fixed one.")] = None,
) -> None:
    """Send a few one-line requests and report what works. The exit code is 1 if an endpoint does not work.

    Without options, every provider with a key in the environment is checked.

    **Example:** `star-hf endpoints check --config recipes/data/star_1.yaml`
    """
    from ..llm.http.probe import probe

    findings = []
    schemas = _schemas(config)
    endpoints = _endpoints(config, provider, model, base_url)
    for roles, endpoint in endpoints:
        with console.status(f"Checking {endpoint.model} ..."):
            finding = probe(endpoint, [schema for role in roles for schema in schemas.get(role, schemas[None])])
        mode = endpoint.structured_output
        if finding.problem is None and config and roles != ["teacher"] and not finding.keeps_schema:
            said = f" ({finding.refused[mode]})" if mode in finding.refused else ""
            finding.problem = f"`structured: {mode}` does not work here{said}; " + ", ".join(finding.advice)
        findings.append((", ".join(roles), finding))
    _show(findings)
    if any(finding.problem for _, finding in findings):
        raise typer.Exit(1)


def _endpoints(
    config: Path | None, provider: str | None, model: str | None, base_url: str | None
) -> "list[tuple[list[str], Endpoint]]":
    """The endpoints to check, each once, with its roles; the members of a pool one by one."""
    from ..llm.endpoint import Endpoint
    from ..llm.http.probe import configured_presets
    from ..pipeline.config import load_config

    if config is not None:
        roles: dict[str, list[str]] = {}
        for role, endpoint in load_config(config).endpoints:
            for member in endpoint.members:
                roles.setdefault(member.model_dump_json(), []).append(role)
        return [(names, Endpoint.model_validate_json(member)) for member, names in roles.items()]
    if provider is None and base_url is None:
        found = [([endpoint.provider], endpoint) for endpoint in configured_presets(model)]
        if not found:
            raise ConfigError(
                "Nothing to check: no provider has a key in the environment.",
                "Set one (docs/model_calls.md lists their names), or give --config, or --provider and --model.",
            )
        return found
    if model is None:
        raise ConfigError("No model is given.", "Set --model.")
    given = {"provider": provider or "vllm", "model": model, "base_url": base_url}
    endpoint = validated(Endpoint, given, "The endpoint")
    return [([endpoint.provider], endpoint)]


def _schemas(config: Path | None) -> dict[str | None, list[dict[str, Any]]]:
    """The schemas that each role of a recipe asks with, and under `None` those of all roles."""
    from ..pipeline.config import load_config
    from ..policies import Taxonomy
    from ..transforms.classify import Classifier
    from ..transforms.rewrite import BenignRewriter, BenignScorer
    from ..transforms.score import Scorer

    policies = None if config is None else load_config(config).policies
    taxonomy = Taxonomy.load(policies)
    steps = {"classifier": [Classifier], "scorer": [Scorer, BenignScorer], "rewriter": [BenignRewriter]}
    by_role = {role: [kind(taxonomy=taxonomy).schema({}) for kind in kinds] for role, kinds in steps.items()}
    return {**by_role, "teacher": [], None: [schema for schemas in by_role.values() for schema in schemas]}


def _show(findings: "list[tuple[str, ProbeFinding]]") -> None:
    """Print one column of facts per endpoint, and below it problems and advice."""
    facts = [_facts(finding) for _, finding in findings]
    table = new_table("", "", *(roles for roles, _ in findings), padding=(0, 2, 0, 0))
    for name in facts[0]:
        table.add_row(name, *(Text(told[name]) for told in facts))
    console.print(table)
    for roles, finding in findings:
        if finding.problem:
            say(f"{roles}: {finding.problem}", "red")
            continue
        # A teacher has no schema.
        advice = [line for line in finding.advice if roles != "teacher" or not line.startswith("structured")]
        if advice:
            say(f"{roles}: set in the recipe  {'  '.join(advice)}")


def _facts(finding: "ProbeFinding") -> dict[str, str]:
    endpoint = finding.endpoint
    told = {"model": endpoint.model, "provider": endpoint.provider}
    if finding.latency_s is None:
        works = "works, embedded" if endpoint.provider == "local" and not finding.problem else "BROKEN"
        rest = dict.fromkeys(("model listed", "schema by", "thought", "logprobs", "rate limits", "batches"), "-")
        return {**told, "answers": works, **rest}
    limits = (f"{value} {name.removeprefix('x-ratelimit-limit-')}" for name, value in finding.limits.items())
    return {
        **told,
        "answers": "BROKEN" if finding.problem else f"in {finding.latency_s:.1f} s",
        "model listed": {True: "yes", False: "no", None: "unknown"}[finding.listed],
        "schema by": ", ".join(mode for mode, works in finding.modes.items() if works) or "prompt only",
        "thought": finding.reasoning,
        "logprobs": "yes" if finding.logprobs else "no",
        "rate limits": ", ".join(limits) or "not told",
        "batches": "yes" if finding.batches else "no",
    }
