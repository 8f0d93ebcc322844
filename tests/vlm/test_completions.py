"""A served model: scores equal to the local scorer's, faults of the server, and a key that nothing shows."""

import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3

from tests.support.completions_server import CompletionsServer, served
from tests.support.scoring import pair_at, score, wanting
from tests.support.tiny_vlms import EQUAL, save
from zip_ray import api
from zip_ray.artifact.tuned_prompt import TunedPrompt
from zip_ray.config.merging import merge
from zip_ray.config.reading import validate
from zip_ray.config.tree import Config
from zip_ray.errors import InputError
from zip_ray.pool.contract import ScorerLike
from zip_ray.prompts import make_space
from zip_ray.protocol.arrays import Float32
from zip_ray.protocol.facts import SERVED
from zip_ray.scorer.generative import VlmScorers
from zip_ray.scorer.served_generative import served_scorer
from zip_ray.testing import ScorerContract
from zip_ray.vlm.frozen_vlm import FrozenVlm, load_vlm

KEY, VARIABLE = "sk-a-key-to-keep-secret", "ZIP_RAY_TEST_KEY"
SCORERS = VlmScorers()
FULL_OF_POSITIONS = {
    "qwen2.5-vl": "its image has positions of its own",
    "qwen3-vl": "its image has positions of its own",
    "gemma3": "its image has an attention mask of its own",
    "paligemma": "its image has an attention mask of its own",
}
"""Families that embeddings do not express."""


@pytest.fixture(scope="module")
def vlm(painted_vlm_run: dict[str, Any]) -> FrozenVlm:
    return load_vlm(painted_vlm_run["model"]["name"], "cpu")


@pytest.fixture
def server(vlm: FrozenVlm, monkeypatch: pytest.MonkeyPatch) -> Iterator[CompletionsServer]:
    monkeypatch.setattr(urllib3.util.retry.time, "sleep", lambda _: None)
    with served(vlm) as running:
        yield running


def tree_for(tree: dict[str, Any], server: CompletionsServer, **model: Any) -> dict[str, Any]:
    """The config of a run over a server."""
    return merge(tree, {"model": {"scorer": "served", "url": server.url, "timeout": 20, **model}})


def scorer_of(tree: dict[str, Any]) -> ScorerLike:
    config = validate(tree, "")
    return served_scorer(config.model, config) if config.model.scorer == "served" else SCORERS(config)


def scored(tree: dict[str, Any], scorer: ScorerLike | None = None) -> Float32:
    """All scores of a pair near the start, shape (2, images, classes)."""
    config, one = validate(tree, ""), scorer or scorer_of(tree)
    space = make_space(config.prompt, one.facts().shape, config.seed)
    found = score(one, wanting(pair_at(space.initial(), scale=0.3)))[0].scores
    assert found is not None
    return found


class TestServed(ScorerContract):
    @pytest.fixture(autouse=True)
    def _over_a_server(self, painted_vlm_run: dict[str, Any], server: CompletionsServer) -> None:
        self.tree = tree_for(painted_vlm_run, server)

    def make_scorer(self, config: Config) -> ScorerLike:
        return served_scorer(config.model, config)


@pytest.mark.parametrize("scoring", ["sum", "mean", "calibrated"])
def test_a_served_model_scores_as_a_local_one(
    scoring: str, painted_vlm_run: dict[str, Any], server: CompletionsServer
) -> None:
    here = merge(painted_vlm_run, {"model": {"scoring": scoring}})
    found, expected = scored(tree_for(here, server)), scored(here)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01, "prompts are told apart"
    assert np.ptp(expected, axis=1).max() > 0.01, "images are told apart"


def test_the_shipped_model_served_scores_as_here(painted_vlm_run: dict[str, Any]) -> None:
    here = merge(painted_vlm_run, {"model": {"name": "tiny-vlm"}})
    with served(load_vlm("tiny-vlm", "cpu")) as server:
        one = scorer_of(tree_for(here, server))
        np.testing.assert_allclose(scored(tree_for(here, server), one), scored(here), atol=1e-4)
        facts, local = one.facts(), scorer_of(here).facts()
    assert facts.weights_digest == local.weights_digest
    assert facts.vlm is not None
    assert facts.vlm.text_pass == SERVED
    assert facts.vlm.memory.startswith("embeddings of the images are kept in memory: ")


@pytest.mark.parametrize("family", [*EQUAL, "paligemma"])
def test_every_family_is_exact_or_refused(family: str, painted_vlm_run: dict[str, Any], tmp_path: Path) -> None:
    here = merge(painted_vlm_run, {"model": {"name": save(family, tmp_path)}})
    with served(load_vlm(here["model"]["name"], "cpu")) as server:
        there = tree_for(here, server)
        if family in FULL_OF_POSITIONS:
            with pytest.raises(InputError, match=f"{FULL_OF_POSITIONS[family]}: use model.scorer vlm"):
                scorer_of(there)
            assert server.asked == []
        else:
            np.testing.assert_allclose(scored(there), scored(here), atol=1e-4)


def asking(tree: dict[str, Any], folder: Path, options: str) -> dict[str, Any]:
    """The run, over a manifest with a question and these options for each image."""
    options_of_all = options.split("|")
    lines = [
        f"{path},{('train', 'test')[k % 2]},What?,{options},{options_of_all[k // 2 % 2]}"
        for k, path in enumerate(sorted(shutil.copytree(tree["task"]["root"], folder / "images").rglob("*.png")))
    ]
    (folder / "asked.csv").write_text("\n".join(["path,split,question,options,answer", *lines]))
    return {**tree, "task": {"name": "manifest", "root": str(folder / "asked.csv"), "shots": 2, "batch_size": 2}}


@pytest.fixture(scope="module")
def letters(painted_vlm_run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run whose answers are A and B: three nodes, the empty one and one before each end."""
    return asking(painted_vlm_run, tmp_path_factory.mktemp("letters"), "A|B")


@pytest.mark.parametrize(("end_token", "nodes"), [(False, 1), (True, 3)])
def test_one_request_for_answers_of_one_token_and_one_more_per_inner_node(
    end_token: bool, nodes: int, letters: dict[str, Any], server: CompletionsServer
) -> None:
    tree = tree_for(letters, server, end_token=end_token)
    one = scorer_of(tree)
    before = len(server.asked)
    prompts, images, _ = scored(tree, one).shape
    asked = server.asked[before:]
    assert sum(request["sequences"] for request in asked) == nodes * prompts * images
    assert len(asked) == nodes, "prompts and images share a request"


def test_requests_have_so_many_sequences_and_half_the_bytes(
    painted_vlm_run: dict[str, Any], server: CompletionsServer
) -> None:
    exact = scored(painted_vlm_run)
    sizes = {}
    for embeddings in ("fp32", "bf16"):
        tree = tree_for(painted_vlm_run, server, batch=3, connections=2, embeddings=embeddings, served_name="mine")
        one, before = scorer_of(tree), len(server.asked)
        np.testing.assert_allclose(scored(tree, one), exact, atol={"fp32": 1e-4, "bf16": 0.5}[embeddings])
        asked = server.asked[before:]
        assert max(request["sequences"] for request in asked) == 3
        assert {request["model"] for request in asked} == {"mine"}
        sizes[embeddings] = sum(request["bytes"] for request in asked)
    assert sizes["bf16"] < 0.75 * sizes["fp32"], "torch's own header is in both"


def test_an_answer_that_begins_another_needs_its_end(
    painted_vlm_run: dict[str, Any], server: CompletionsServer, tmp_path: Path
) -> None:
    tree = tree_for(asking(painted_vlm_run, tmp_path, "cat|cat fish"), server, end_token=False)
    with pytest.raises(InputError, match=r"^model.end_token: 'false', but one answer is the beginning of another"):
        scored(tree)


@pytest.mark.parametrize("fault", ["500", "503", "429", "slow", "cut", "half", "short", "nan"])
def test_a_fault_that_passes_changes_nothing(fault: str, letters: dict[str, Any], server: CompletionsServer) -> None:
    tree = tree_for(letters, server, timeout=0.3 if fault == "slow" else 20, connections=1)
    one = scorer_of(tree)
    expected, clean = scored(tree, one), len(server.asked) - 2
    server.faults = [fault]
    np.testing.assert_array_equal(scored(tree, one), expected)
    assert len(server.asked) - 2 == 2 * clean + 1, "one request was sent again"


def test_a_limit_of_the_rate_is_waited_for_as_long_as_the_server_asks(
    letters: dict[str, Any], server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_for(letters, server)
    one, pauses = scorer_of(tree), []
    monkeypatch.setattr(urllib3.util.retry.time, "sleep", pauses.append)
    server.faults = ["429"]
    scored(tree, one)
    assert pauses == [7]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", r"answers with status 500 \(a fault, asked with\): it was asked 3 times: see to the server"),
        ("cut", r"gives no answer in 3 attempts \(ProtocolError"),
        ("half", r"gives no answer in 3 attempts \(ProtocolError: ValidationError: .*Invalid JSON"),
        ("short", r"gives no answer in 3 attempts \(ProtocolError: ValueError: \d+ choices for \d+ sequences\)"),
        ("400", r"answers with status 400 \(a fault, asked with\): serve the model with --enable-prompt-embeds"),
        ("302", r"answers with status 302 \("),
        ("ignores", r"gives no log-probability of 'token_id:\d+' \(logprob_token_ids has no effect\): serve the model"),
    ],
)
def test_a_fault_that_stays_is_one_line(
    fault: str, said: str, letters: dict[str, Any], server: CompletionsServer
) -> None:
    tree = tree_for(letters, server, retries=2)
    one = scorer_of(tree)
    server.always = fault
    with pytest.raises(InputError, match=f"^model.url: '{re.escape(server.url)}' {said}") as error:
        scored(tree, one)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_named(letters: dict[str, Any], server: CompletionsServer) -> None:
    tree = tree_for(letters, server, url="http://127.0.0.1:1/v1", retries=1)
    with pytest.raises(InputError, match=r"^model.url: .* gives no answer in 2 attempts \(NewConnectionError"):
        scorer_of(tree)


def test_another_model_on_the_server_is_named(letters: dict[str, Any], tmp_path: Path) -> None:
    with served(load_vlm(save("llava", tmp_path, seed=1), "cpu")) as server, pytest.raises(InputError) as error:
        scorer_of(tree_for(letters, server))
    assert "is not what the server has: the same words as tokens and as embeddings differ by" in str(error.value)


def test_what_is_no_address_is_refused(letters: dict[str, Any], server: CompletionsServer) -> None:
    with pytest.raises(InputError, match=r"'localhost:8000' is no web address: give http://HOST:PORT/v1"):
        validate(tree_for(letters, server, url="localhost:8000"), "")


def test_a_key_that_is_refused_or_missing_is_not_shown(
    letters: dict[str, Any], server: CompletionsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "another"
    tree = tree_for(letters, server, key_variable=VARIABLE)
    with pytest.raises(InputError, match=f"^model.key_variable: '{VARIABLE}' is not set where the scorer runs"):
        scorer_of(tree)
    monkeypatch.setenv(VARIABLE, KEY)
    with pytest.raises(InputError) as error:
        scorer_of(tree)
    assert KEY not in str(error.value)
    assert "answers with status 401 (Incorrect API key provided: Bearer ***)" in str(error.value)
    assert str(error.value).endswith("name the environment variable with its key in model.key_variable")


def test_a_run_that_the_server_ends_goes_on_charged_once_and_writes_the_key_nowhere(
    letters: dict[str, Any],
    server: CompletionsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    tree = tree_for(letters, server, key_variable=VARIABLE, retries=1, end_token=False)
    tree = {**tree, "budget": {"queries": 20}, "validation": {"every_queries": 10}}

    def config(name: str, **model: Any) -> Config:
        return validate(merge(tree, {"output": {"dir": str(tmp_path / name)}, "model": model}), "")

    api.tune(config("whole"))
    requests = len(server.asked)
    server.faults = [""] * (requests // 2) + ["500"] * 40
    with pytest.raises(InputError, match=r"answers with status 500"):
        api.tune(config("cut"))
    server.faults = []
    with pytest.raises(InputError, match=r"^model.scoring: differs from what"):
        api.resume(tmp_path / "cut", config("cut", scoring="mean"))
    moved = server.url.replace("127.0.0.1", "localhost")
    api.resume(tmp_path / "cut", config("cut", url=moved, batch=3, retries=2))
    whole, cut = (TunedPrompt.load(tmp_path / name) for name in ("whole", "cut"))
    np.testing.assert_array_equal(cut.parameters, whole.parameters)
    assert cut.card.queries == whole.card.queries == 20
    assert cut.card.scorer == "vlm", "the prompt is used from the model's own files"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 8
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in caplog.text + "".join(capfd.readouterr())
