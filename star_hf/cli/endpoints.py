"""`star-hf endpoints`: find out what the models of a recipe, or the providers whose keys are set, can do."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..errors import ConfigError


if TYPE_CHECKING:
    from ..llm.endpoint import Endpoint
    from ..llm.http.probe import Finding


__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
console = Console()


@app.callback()
def _group() -> None:
    """Look at the endpoints that models answer at."""


@app.command()
def check(
    config: Annotated[Path | None, typer.Option(help="A recipe whose endpoints are checked.")] = None,
    provider: Annotated[str | None, typer.Option(help="Check one endpoint of this provider instead.")] = None,
    model: Annotated[str | None, typer.Option(help="Its model.")] = None,
    base_url: Annotated[str | None, typer.Option(help="Its address, where the provider has none.")] = None,
) -> None:
    """Send a few requests of a line each and tell what works; ends with code 1 when an endpoint is broken.

    Without options, every provider whose key is in the environment is asked.

    **Example:** `star-hf endpoints check --config recipes/data/star_1.yaml`
    """
    from ..llm.http.probe import probe

    findings = []
    endpoints = _endpoints(config, provider, model, base_url)
    for roles, endpoint in endpoints:
        with console.status(f"Asking {endpoint.model} ..."):
            finding = probe(endpoint)
        if finding.problem is None and config and roles != ["teacher"] and not finding.keeps_schema:
            finding.problem = f"`structured: {endpoint.structured_output}` does not work here; " + ", ".join(
                finding.advice
            )
        findings.append((", ".join(roles), finding))
    _show(findings)
    if any(finding.problem for _, finding in findings):
        raise typer.Exit(1)


def _endpoints(
    config: Path | None, provider: str | None, model: str | None, base_url: str | None
) -> "list[tuple[list[str], Endpoint]]":
    """Whom to ask, each once, with the roles that it has; the members of a pool one by one."""
    from pydantic import ValidationError

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
                "There is nothing to check: no provider's key is in the environment.",
                "Set one (docs/model_calls.md lists their names), or give --config, or --provider and --model.",
            )
        return found
    if model is None:
        raise ConfigError("No model is given.", "Name one with --model.")
    try:
        endpoint = Endpoint(provider=provider or "vllm", model=model, base_url=base_url)
    except ValidationError as error:
        raise ConfigError(f"The endpoint cannot be used: {error.errors()[0]['msg']}.") from None
    return [([endpoint.provider], endpoint)]


def _show(findings: "list[tuple[str, Finding]]") -> None:
    """One column of facts for each endpoint, and below it what is wrong or could be better."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    facts = [_facts(finding) for _, finding in findings]
    for roles, _ in findings:
        table.add_column(Text(roles), overflow="fold")
    for name in facts[0]:
        table.add_row(name, *(Text(told[name]) for told in facts))
    console.print(table)
    for roles, finding in findings:
        if finding.problem:
            console.print(Text(f"{roles}: {finding.problem}", style="red"), soft_wrap=True)
            continue
        # A teacher writes freely, so how it would keep to a schema is of no interest.
        advice = [line for line in finding.advice if roles != "teacher" or not line.startswith("structured")]
        if advice:
            console.print(Text(f"{roles}: the recipe could say  {'  '.join(advice)}"), soft_wrap=True)


def _facts(finding: "Finding") -> dict[str, str]:
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
