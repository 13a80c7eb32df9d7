"""How long `star-hf policy test` takes beside the least time: 300 cases, 200 ms per answer, 64 requests in flight.

    python benchmarks/policy_suites.py
    python benchmarks/policy_suites.py --cases 1000 --turns 3

A server on loopback, in a process of its own, plays model and judge. The least time is that of the two rounds of
probes, and of answers and verdicts in full waves; journal, tables, statistics and reports come on top. Importing
packages is left out.
Then the same call is made again, which asks for nothing.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path


LATENCY_S, IN_FLIGHT = 0.2, 64
STYLES = ("plain", "borderline")


def serve(latency_s: float) -> None:
    """Answer every request after `latency_s`; the port is the first line of the output."""
    import asyncio

    from aiohttp import web

    from star_hf.evaluation.grading.judges.kinds import PROBES

    def said(body: dict) -> str:
        if "response_format" not in body:
            return f"No, not number {abs(hash(str(body['messages']))) % 10**9}."
        text = body["messages"][-1]["content"]
        probed = next(((kind, ["R1"] if broken else []) for _, a, kind, broken in PROBES if a in text), ("refuse", []))
        return json.dumps({"why": "plain", "kind": probed[0], "broken": probed[1]})

    async def answer(request: web.Request) -> web.Response:
        body = await request.json()
        await asyncio.sleep(latency_s)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said(body)}}
        usage = {"prompt_tokens": 400, "completion_tokens": 60, "total_tokens": 460}
        head = {"id": "loopback", "object": "chat.completion", "created": 0, "model": body["model"]}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    async def run() -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1_024)
        await site.start()
        print(site._server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Event().wait()

    asyncio.run(run())


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """The address of a server in a process of its own."""
    words = [sys.executable, __file__, "--serve", str(latency_s)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        serve(arguments.serve)
        return
    from star_hf.evaluation.generation.models import Served
    from star_hf.evaluation.grading.judges import load_judge
    from star_hf.llm import Endpoint
    from star_hf.policies import Case, Suite, Taxonomy, rule_refs
    from star_hf.suites.report import write_reports
    from star_hf.suites.testing import run_suite

    refs = rule_refs(Taxonomy.load())
    cases = tuple(
        Case(
            list(refs)[number % len(refs)],
            STYLES[number % 2],
            tuple(f"Is number {number} fine, step {step}?" for step in range(arguments.turns)),
            "refuse",
        )
        for number in range(arguments.cases)
    )
    suite = Suite("speed", "star_8", "en", cases, refs)
    least = LATENCY_S * (2 + math.ceil(arguments.cases / IN_FLIGHT) * (arguments.turns + 1))
    with server(LATENCY_S) as url, tempfile.TemporaryDirectory() as folder:
        endpoint = Endpoint(model="m", provider="vllm", base_url=url, concurrency=IN_FLIGHT)
        for what in ("warm", "first", "again"):  # the first call imports packages
            asked = replace(suite, cases=cases[:2]) if what == "warm" else suite
            place = Path(folder) / ("warm" if what == "warm" else "results")
            started, worked = time.perf_counter(), time.process_time()
            judge = load_judge(f"judge@{url}")
            found = run_suite(asked, Served(endpoint, "mark"), place, judge=judge, progress=False, samples=1)
            write_reports(found, html=place / "report.html", junit=place / "report.xml")
            seconds, worked = time.perf_counter() - started, time.process_time() - worked
            if what != "warm":
                share = f", {seconds / least:.2f} of the least {least:.2f} s" if what == "first" else ""
                print(f"{what:>6}  {seconds:6.2f} s, {worked:.2f} s of a processor{share}")
        assert found.overall.passed == arguments.cases


if __name__ == "__main__":
    main()
