"""Requests to an OpenAI-compatible server: log-probabilities of chosen next tokens behind embedded sequences.

The protocol is that of vLLM's `/v1/completions` with `prompt_embeds`, `logprob_token_ids` and `max_tokens: 1`.
"""

import base64
import io
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, Field, FiniteFloat
from torch import Tensor
from urllib3 import BaseHTTPResponse, PoolManager, Retry
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError

from zip_ray.config.secrets import HIDDEN, without_secrets
from zip_ray.errors import InputError, one_line
from zip_ray.protocol.arrays import Float64

PASSING = (408, 425, 429, 500, 502, 503, 504)
"""Statuses that may be others when the request is sent again."""
FORBIDDEN = (401, 403)
MOST_TOKENS = 128
"""Tokens that vLLM returns of one position."""
LONGEST_PAUSE = 300
"""Seconds: whatever Retry-After asks for, a server is asked again by then."""
Group = tuple[Sequence[Callable[[], Tensor]], Sequence[int]]
"""Sequences, each made as embeddings (rows, width) when it is sent, and the tokens that are asked for behind each."""


@dataclass(frozen=True)
class Server:
    """Where a model is served, and how it is asked; the fields are those of `config.served`."""

    url: str
    model: str | None = None
    key: str | None = field(default=None, repr=False)
    batch: int = 8
    connections: int = 8
    timeout: float = 60
    retries: int = 6
    embeddings: torch.dtype = torch.float32


class _LogProbs(BaseModel):
    top_logprobs: list[dict[str, FiniteFloat]] = Field(min_length=1, max_length=1)


class _Choice(BaseModel):
    index: int
    logprobs: _LogProbs


class _Answer(BaseModel):
    choices: list[_Choice]


class Completions:
    """Asks a server. Faults that pass are waited for; the key stays in the headers of the requests."""

    def __init__(self, server: Server) -> None:
        """Nothing is sent yet."""
        self._server, self._url = server, f"{server.url}/completions"
        key = {} if server.key is None else {"Authorization": f"Bearer {server.key}"}
        self._pool = PoolManager(
            maxsize=server.connections,
            block=True,
            timeout=server.timeout,
            headers={"Content-Type": "application/json", **key},
        )
        self._retries = Retry(
            server.retries,
            allowed_methods=None,
            status_forcelist=PASSING,
            raise_on_status=False,
            backoff_factor=0.5,
            backoff_jitter=0.5,
            retry_after_max=LONGEST_PAUSE,
        )

    def next_tokens(self, groups: Sequence[Group]) -> list[Float64]:
        """Of each group: log-probabilities of its tokens behind each of its sequences, shape (sequences, tokens).

        Raises:
            InputError: the server refuses, or does not answer in all its attempts.
        """
        found: list[Float64] = [np.empty((len(sequences), len(tokens))) for sequences, tokens in groups]
        parts = [
            (place, rows, columns)
            for place, (sequences, tokens) in enumerate(groups)
            for rows in _parts(len(sequences), self._server.batch)
            for columns in _parts(len(tokens), MOST_TOKENS)
        ]

        def ask(part: tuple[int, slice, slice]) -> Float64:
            place, rows, columns = part
            sequences, tokens = groups[place]
            embedded = [self._encoded(make()) for make in sequences[rows]]
            return self._ask({"prompt_embeds": embedded}, len(embedded), tokens[columns])

        with ThreadPoolExecutor(self._server.connections) as threads:
            for (place, rows, columns), answer in zip(parts, threads.map(ask, parts), strict=True):
                found[place][rows, columns] = answer
        return found

    def behind_tokens(self, ids: Sequence[int], tokens: Sequence[int]) -> Float64:
        """Log-probabilities of tokens behind a sequence of token ids, shape (tokens,); raises as `next_tokens`."""
        (found,) = self._ask({"prompt": [list(ids)]}, 1, tokens)
        return np.asarray(found)

    def _encoded(self, sequence: Tensor) -> str:
        """A tensor as the server reads it: torch's own file, in base64."""
        file = io.BytesIO()
        torch.save(sequence.to("cpu", self._server.embeddings), file)
        return base64.b64encode(file.getvalue()).decode()

    def _ask(self, prompt: dict[str, Any], count: int, tokens: Sequence[int]) -> Float64:
        """The answer to one request, shape (count, tokens)."""
        question = prompt | {
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": 1,
            "logprob_token_ids": [int(token) for token in tokens],
            "return_tokens_as_token_ids": True,
        }
        if self._server.model is not None:
            question["model"] = self._server.model
        body, retries = json.dumps(question).encode(), self._retries
        while True:
            try:
                response = self._pool.request("POST", self._url, body=body, retries=retries, redirect=False)
                if response.status != 200:
                    raise self._refused(response)
                try:
                    rows = _rows(response.data, count)
                except ValueError as error:  # cut off, or of another request: counts as an attempt
                    assert response.retries is not None
                    retries = response.retries.increment("POST", self._url, error=ProtocolError(one_line(error)))
                    retries.sleep()
                    continue
            except HTTPError as error:
                reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
                raise InputError(
                    self._said(
                        f"gives no answer in {self._server.retries + 1} attempts", one_line(reason), "see to the server"
                    )
                ) from None
            return self._chosen(rows, tokens)

    def _chosen(self, rows: list[dict[str, float]], tokens: Sequence[int]) -> Float64:
        try:
            return np.array([[row[f"token_id:{token}"] for token in tokens] for row in rows])
        except KeyError as error:
            fault, remedy = f"gives no log-probability of {error}", "serve the model with a vLLM that does"
            raise InputError(self._said(fault, "logprob_token_ids has no effect", remedy)) from None

    def _refused(self, response: BaseHTTPResponse) -> InputError:
        """What to say of a status; some servers repeat the key in their message."""
        said = " ".join(response.data.decode(errors="replace").split())[:200]
        if response.status in FORBIDDEN:
            remedy = "name the environment variable with its key in model.key_variable"
        elif response.status in PASSING:
            remedy = f"it was asked {self._server.retries + 1} times: see to the server"
        else:
            remedy = "serve the model with --enable-prompt-embeds, and give its name as model.served_name"
        return InputError(self._said(f"answers with status {response.status}", said, remedy))

    def _said(self, fault: str, reason: str, remedy: str) -> str:
        line = f"model.url: '{self._server.url}' {fault} ({reason or 'no reason'}): {remedy}"
        line = line if self._server.key is None else line.replace(self._server.key, HIDDEN)
        return str(without_secrets(line))


def _parts(count: int, most: int) -> list[slice]:
    return [slice(start, start + most) for start in range(0, count, most)]


def _rows(data: bytes, count: int) -> list[dict[str, float]]:
    """By token, the log-probabilities behind each sequence of a request.

    Raises:
        ValueError: it is no answer to that many sequences.
    """
    choices = sorted(_Answer.model_validate_json(data).choices, key=lambda choice: choice.index)
    if [choice.index for choice in choices] != [*range(count)]:
        raise ValueError(f"{len(choices)} choices for {count} sequences")
    return [choice.logprobs.top_logprobs[0] for choice in choices]
