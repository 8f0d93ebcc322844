"""A small OpenAI-compatible server over a generative model: vLLM's protocol of embeddings and chosen tokens."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from zip_ray.vlm.frozen_vlm import FrozenVlm

Fault = str
"""`500`, `401` ... (a status); `slow` (no answer); `cut` (the connection ends early); `half` (half a JSON text);
`short` (an answer too few); `nan`; `ignores` (no chosen tokens)."""


class CompletionsServer(ThreadingHTTPServer):
    """Answers `/v1/completions`; `faults` hit the next requests, or all of them if `always`."""

    daemon_threads = True

    def __init__(self, vlm: FrozenVlm, key: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vlm, self.key = vlm, key
        self.faults: list[Fault] = []
        self.always: Fault | None = None
        self.asked: list[dict[str, Any]] = []
        """The requests received, without their embeddings; with `sequences`, their number, and `bytes`."""
        self.patience = threading.Event()
        """Set when the server closes; slow responses wait for it."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: CompletionsServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = json.loads(body)
        sequences = self._sequences(asked)
        with self.server.lock:
            self.server.asked.append({**asked, "sequences": len(sequences), "bytes": len(body)})
            fault = self.server.always or (self.server.faults.pop(0) if self.server.faults else "")
        given = self.headers.get("Authorization", "")
        if self.path != "/v1/completions":
            self._send(404, b"no such path")
        elif self.server.key is not None and given != f"Bearer {self.server.key}":
            self._send(401, f"Incorrect API key provided: {given}".encode())
        elif fault.isdigit():
            self._send(int(fault), f"a fault, asked with {given}".encode())
        elif fault == "slow":
            self.server.patience.wait(30)
        else:
            self._answer(asked, sequences, fault)

    def _sequences(self, asked: dict[str, Any]) -> list[torch.Tensor]:
        if "prompt" in asked:
            return [self.server.vlm.embed(torch.tensor(ids)) for ids in asked.pop("prompt")]
        files = [io.BytesIO(base64.b64decode(one, validate=True)) for one in asked.pop("prompt_embeds")]
        return [torch.load(file, weights_only=True).float() for file in files]

    @torch.inference_mode()
    def _answer(self, asked: dict[str, Any], sequences: list[torch.Tensor], fault: Fault) -> None:
        assert (asked["max_tokens"], asked["return_tokens_as_token_ids"]) == (1, True)
        assert len(asked["logprob_token_ids"]) <= 128
        vlm, choices = self.server.vlm, []
        for index, sequence in enumerate(sequences):
            hidden = vlm.decoder(inputs_embeds=sequence[None], use_cache=False).last_hidden_state[0, -1]
            found = vlm.model.get_output_embeddings()(hidden).log_softmax(dim=0)
            chosen = [int(found.argmax()), *([] if fault == "ignores" else asked["logprob_token_ids"])]
            top = {f"token_id:{token}": float("nan") if fault == "nan" else float(found[token]) for token in chosen}
            choices.append({"index": index, "text": "", "logprobs": {"top_logprobs": [top]}})
        kept = choices[1:] if fault == "short" else choices[::-1]
        data = json.dumps({"object": "text_completion", "choices": kept}).encode()
        if fault == "cut":
            self._send(200, data[: len(data) // 2], len(data))
            self.close_connection = True
        else:
            self._send(200, data[: len(data) // 2] if fault == "half" else data)

    def _send(self, status: int, data: bytes, length: int | None = None) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(vlm: FrozenVlm, key: str | None = None) -> Iterator[CompletionsServer]:
    """A running server over a model."""
    server = CompletionsServer(vlm, key)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.patience.set()
        server.shutdown()
        server.server_close()
        thread.join()
