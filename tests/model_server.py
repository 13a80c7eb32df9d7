"""A chat completions server on loopback that answers by a rule, counts what it was paid for, and fails on demand."""

import contextlib
import hashlib
import json
import re
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from star_hf.schema import BENIGN_CRITERIA, SCORE_CRITERIA


__all__ = ["Handler", "ModelServer", "Reply", "payload", "star_answers"]


@dataclass
class Reply:
    """What the server sends: an answer, an error of this status, or with `half_s` half of its body and after that, for
    so many seconds, the bare line breaks that some providers keep a connection alive with.
    """

    text: str = ""
    status: int = 200
    finish_reason: str = "stop"
    message: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    drop: bool = False
    half_s: float | None = None


Rule = Callable[[dict[str, Any], int], "Reply | str"]


class ModelServer:
    """`with ModelServer(rule) as server:` and ask `server.url`.

    Args:
        rule (`Callable`): Takes the request's JSON and how often exactly this request came before; returns the answer.
        delay_s (`float`): Seconds before each answer.
    """

    handler: type[BaseHTTPRequestHandler]

    def __init__(self, rule: Rule, delay_s: float = 0.0):
        self.rule = rule
        self.delay_s = delay_s
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.paths: set[str] = set()
        self.models: list[dict[str, Any]] | None = None
        self.paid: Counter[str] = Counter()
        self._seen: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __enter__(self) -> "ModelServer":
        handler = type("Bound", (self.handler,), {"model_server": self})
        self._http = _Http(("127.0.0.1", 0), handler)
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def wrap(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True)

    def answer(self, body: dict[str, Any], key: str | None) -> Reply:
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._lock:
            self.requests.append(body)
            self.keys.add(key)
            before = self._seen[digest]
            self._seen[digest] += 1
        reply = self.rule(body, before)
        reply = Reply(reply) if isinstance(reply, str) else reply
        if reply.status == 200 and not reply.drop and reply.raw is None and reply.half_s is None:
            with self._lock:
                self.paid[digest] += 1
        return reply


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


class Handler(BaseHTTPRequestHandler):
    model_server: ModelServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        """`/v1/models`, where the server was told what it has loaded."""
        models = self.model_server.models
        data = json.dumps({"object": "list", "data": models or []}).encode()
        self.send_response(404 if models is None else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model_server.paths.add(self.path)
        reply = self.model_server.answer(body, self.headers.get("Authorization") or self.headers.get("api-key"))
        time.sleep(self.model_server.delay_s)
        if reply.drop:
            self.close_connection = True
            return
        data = reply.raw if reply.raw is not None else json.dumps(payload(body, reply)).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if reply.half_s is None:
            self.wfile.write(data)
        else:
            self._trickle(data, reply.half_s)

    def _trickle(self, data: bytes, seconds: float) -> None:
        self.close_connection = True
        hang_up_at = time.monotonic() + seconds
        with contextlib.suppress(OSError):
            self.wfile.write(data[: len(data) // 2])
            while time.monotonic() < hang_up_at:
                self.wfile.write(b"\n")
                time.sleep(0.05)


ModelServer.handler = Handler


def payload(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    if reply.status != 200:
        return {"error": {"message": "as asked", **reply.error}}
    message = {"role": "assistant", "content": reply.text, **reply.message}
    probed = body.get("messages", [{}])[-1].get("content") == "Say OK."  # where a system prompt must count
    tokens = 100 + probed * len(body["messages"])
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": tokens + 10},
    }


def star_answers(body: dict[str, Any], before: int) -> str:
    """The rule of a well-behaved model: the same plausible answer to the same request, for every stage of a build."""
    luck = int(hashlib.sha256(json.dumps(body["messages"]).encode()).hexdigest(), 16)
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    if schema is None:
        return f"<think>\nThe policy says to take care here ({luck % 1000}).\n</think>\n\nHere is a careful answer."
    properties = schema["properties"]
    if "category" in properties:
        labels = properties["category"]["items"]["enum"]
        return json.dumps({"category": [labels[luck % len(labels)]]})
    if "question" in properties:
        return json.dumps({"question": f"How do people learn to bake bread number {luck % 10**9}?"})
    if set(properties) == set(SCORE_CRITERIA):
        return json.dumps(dict.fromkeys(SCORE_CRITERIA, 10 if luck % 4 else 8))
    assert set(properties) == set(BENIGN_CRITERIA), properties
    return json.dumps(dict.fromkeys(BENIGN_CRITERIA, 5 if luck % 3 else 4))


def question_of(body: dict[str, Any]) -> str:
    """The text inside the first fence of a request's last message."""
    found = re.search(r"<(question-\w+)>\n(.*?)\n</\1>", body["messages"][-1]["content"], re.S)
    return found.group(2) if found else body["messages"][-1]["content"]
