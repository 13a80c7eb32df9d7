"""A Batch API on loopback: files, batches that move on with each look, and results in another order than asked."""

import json
import re
import time
from email import message_from_bytes
from urllib.parse import parse_qs, urlsplit

from model_server import Handler, ModelServer, payload


__all__ = ["BatchServer"]


class BatchServer(ModelServer):
    """As `ModelServer`, and `/v1/files` and `/v1/batches` beside it.

    Args:
        rule: Answers a request, in a batch as well as live.
        fate: Takes the number of a batch, from 0, and says how it ends: `"completed"`, `"expired"`, `"cancelled"`
            (both after half of their requests), `"failed"`, or `"full"` for a failure by the account's queue.
        looks: How often a batch is looked at before it ends.
        metadata: Whether the server keeps a batch's metadata.
    """

    def __init__(self, rule, fate=lambda number: "completed", looks=2, metadata=True):
        super().__init__(rule)
        self.fate, self.looks, self.keeps_metadata = fate, looks, metadata
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.live = 0
        self.hang_after_create_s = 0.0

    def upload(self, content: bytes) -> dict:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = content
        return {"id": file_id, "object": "file", "bytes": len(content), "created_at": 0, "filename": "x.jsonl",
                "purpose": "batch", "status": "processed"}  # fmt: skip

    def create(self, body: dict) -> dict:
        batch_id = f"batch-{len(self.batches)}"
        total = self.files[body["input_file_id"]].count(b"\n")
        self.batches[batch_id] = {
            "id": batch_id,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": body["completion_window"],
            "created_at": int(time.time()),
            "status": "validating",
            "metadata": body.get("metadata") if self.keeps_metadata else None,
            "request_counts": {"total": total, "completed": 0, "failed": 0},
            "looked": 0,
        }
        return self.batches[batch_id]

    def look(self, batch_id: str, key: str | None) -> dict:
        batch = self.batches[batch_id]
        batch["looked"] += 1
        if batch["looked"] > self.looks and batch["status"] in ("validating", "in_progress"):
            self._end(batch, self.fate(int(batch_id.split("-")[1])), key)
        elif batch["status"] == "validating":
            batch["status"] = "in_progress"
        return batch

    def _end(self, batch: dict, fate: str, key: str | None) -> None:
        if fate in ("failed", "full"):
            code = "token_limit_exceeded" if fate == "full" else "invalid_json_line"
            error = {"code": code, "message": "Enqueued token limit reached.", "line": None, "param": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
            return
        lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
        done = len(lines) if fate == "completed" else len(lines) // 2
        good, bad = [], []
        for line in lines[:done]:
            assert line["url"] == batch["endpoint"] and line["method"] == "POST"
            reply = self.answer(line["body"], key)
            body = payload(line["body"], reply) if reply.raw is None else json.loads(reply.raw)
            response = {"status_code": reply.status, "request_id": "r", "body": body}
            result = {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}
            (good if reply.status == 200 else bad).append(result)
        for line in lines[done:]:
            error = {"code": "batch_expired", "message": "This request could not be executed in time."}
            bad.append({"id": "x", "custom_id": line["custom_id"], "response": None, "error": error})
        for name, results in (("output_file_id", good), ("error_file_id", bad)):
            if results:
                text = "".join(json.dumps(result) + "\n" for result in reversed(results))
                batch[name] = self.upload(text.encode())["id"]
        counts = {"total": len(lines), "completed": len(good), "failed": len(bad)}
        batch |= {"status": fate, "request_counts": counts}


class BatchHandler(Handler):
    """Routes of the Batch API; everything else is a live call."""

    model_server: BatchServer

    def do_POST(self) -> None:
        server = self.model_server
        if self.path == "/v1/files":
            self._send(server.upload(self._uploaded_file()))
        elif self.path == "/v1/batches":
            made = server.create(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(server.hang_after_create_s)
            self._send(made)
        elif self.path in ("/v1/chat/completions", "/v1/embeddings"):
            server.live += 1
            super().do_POST()
        else:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(404)

    def do_GET(self) -> None:
        server, url = self.model_server, urlsplit(self.path)
        if found := re.fullmatch(r"/v1/files/([\w-]+)/content", url.path):
            self._send_bytes(server.files[found.group(1)])
        elif found := re.fullmatch(r"/v1/batches/([\w-]+)", url.path):
            self._send(server.look(found.group(1), self.headers.get("Authorization")))
        elif url.path == "/v1/batches":
            newest_first = list(server.batches.values())[::-1]
            after = parse_qs(url.query).get("after", [None])[0]
            ids = [batch["id"] for batch in newest_first]
            start = ids.index(after) + 1 if after else 0
            page = newest_first[start : start + 1]  # one a page, so that a search must turn pages
            self._send({"object": "list", "data": page, "has_more": start + 1 < len(ids)})
        else:
            self.send_error(404)

    def _uploaded_file(self) -> bytes:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\n\n" + body)
        fields = {part.get_param("name", header="content-disposition"): part for part in parts.get_payload()}
        assert fields["purpose"].get_payload() == "batch"
        return fields["file"].get_payload(decode=True)

    def _send(self, value: dict) -> None:
        self._send_bytes(json.dumps(value).encode())

    def _send_bytes(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


BatchServer.handler = BatchHandler
