"""Section `model` for a generative model behind an OpenAI-compatible server."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from zip_ray.config.model import GenerativeOptions
from zip_ray.config.section import Count, Positive

ASKING = ("url", "key_variable", "batch", "connections", "timeout", "retries")
"""Fields that say how the server is asked: they may change on resume, since the answers are the same."""


def _address(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"'{url}' is no web address: give http://HOST:PORT/v1")
    return url.rstrip("/")


class ServedConfig(GenerativeOptions):
    """The frozen model, a generative one that a server has: its image tower and its token embeddings are here too."""

    scorer: Literal["served"] = "served"
    """A generative model behind an OpenAI-compatible server that takes prompt embeddings."""
    url: Annotated[str, AfterValidator(_address)] = "http://127.0.0.1:8000/v1"
    """Address of the server, up to what /completions is appended to."""
    served_name: str | None = None
    """Name under which the server has the model; none = the only one that it has."""
    key_variable: str | None = None
    """Name of the environment variable that has the server's key, on each node with actors. The key itself is neither
    written nor sent elsewhere."""
    embeddings: Literal["fp32", "bf16"] = "fp32"
    """Precision of the embeddings that are sent. bf16 halves them; a server that computes in bf16 loses nothing."""
    end_token: bool = True
    """Whether the end of an answer counts. Without it answers of one token take one request; then no answer may be the
    beginning of another."""
    batch: Count = 8
    """Sequences per request."""
    connections: Count = 8
    """Requests at once, per actor."""
    timeout: Positive = 60
    """Seconds without a byte from the server after which a request is sent again."""
    retries: Annotated[int, Field(ge=0)] = 6
    """How often a request is sent again after faults and refusals that pass, with growing pauses."""
