"""Properties of the config tree that the command line's tests do not cover."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from zip_ray.config.reading import load_config, validate
from zip_ray.config.tree import Config
from zip_ray.config.validation import ValidationConfig
from zip_ray.errors import InputError
from zip_ray.optimizers import METHODS
from zip_ray.prompts.low_rank import LowRankOptions
from zip_ray.prompts.visual import FrameOptions


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert load_config(tmp_path / "c.yaml") == Config()


def test_home_is_read_where_a_path_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = {"task": {"name": "folder", "root": "~/images"}, "output": {"dir": "~/runs/x"}}
    config = validate({**paths, "model": {"name": "ViT-B-16", "pretrained": "~/w.pt"}}, "x")
    assert (config.task.root, config.output.dir) == (Path("/home/me/images"), Path("/home/me/runs/x"))
    assert config.model.pretrained == "/home/me/w.pt"
    assert validate({"model": {"pretrained": "openai"}}, "x").model.pretrained == "openai"


@pytest.mark.parametrize("method", METHODS)
def test_methods_on_losses_have_the_published_sections_beside_them(method: str) -> None:
    config = validate({"optimizer": {"method": method}}, "x")
    if config.optimizer.wants_scores:
        assert (config.prompt.space, config.readout, config.validation.deploy) == ("context", "auto", "lowest-loss")
    else:
        assert (config.prompt, config.readout, config.validation) == (LowRankOptions(), "none", ValidationConfig())


def test_what_a_method_brings_gives_way() -> None:
    prompt = {"space": "frame"}
    config = validate({"prompt": prompt, "readout": "none", "validation": {"deploy": "last"}}, "x")
    assert config.prompt == FrameOptions()
    assert (config.readout, config.validation) == ("none", ValidationConfig(every_queries=1, deploy="last"))
    assert validate({"prompt": {"space": "low-rank"}}, "x").prompt.init == "auto"
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Config().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("share", [0, 1, 0.5, 1 / 3, 0.333, 0.33, 1 / 7, 0.05])
def test_shares_of_a_gpu(share: float) -> None:
    assert validate({"cluster": {"gpus_per_actor": share}}, "x").cluster.gpus_per_actor == share


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"tsk": {}}, "x: tsk: unknown key; known here: seed, task,"),
        ({"budget": {"quries": 3}}, "x: budget.quries: unknown key; known here: queries, seconds,"),
        ({"budget": {"queries": None}}, "x: budget: no limit is set: give queries, seconds or steps"),
        ({"budget": {"target_accuracy": 50}}, "x: budget.target_accuracy: 50: Input should be less than or equal to 1"),
        ({"optimizer": {"method": "zip", "step_size": float("nan")}}, "x: optimizer.step_size: nan: Input should be "),
        ({"optimizer": {"perturbation_scale": 0}}, "x: optimizer.perturbation_scale: 0: Input should be greater"),
        (
            {"optimizer": {"method": "gradient"}, "prompt": {"space": "frame"}},
            "x: optimizer.method gradient differentiates texts, and prompt.space frame prompts images: choose another",
        ),
        ({"task": {"template": "no place"}}, "x: task: template is 'no place': it needs {} once"),
        ({"task": {"crop_scale": [0.5, 0.2]}}, "x: task: crop_scale is (0.5, 0.2): give 0 <"),
        ({"task": {"name": "folder"}}, "x: task: root goes with name 'folder'"),
        ({"task": {"root": "images"}}, "x: task: root goes with name 'folder'"),
        ({"cluster": {"pool": "dask"}}, "x: cluster.pool: 'dask': Input should be 'ray' or 'in-process'"),
        *(
            ({"cluster": {"gpus_per_actor": share}}, f"x: cluster.gpus_per_actor: {share:g} is neither whole nor 1/k: ")
            for share in (1.5, 0.4, 0.334, 0.18, 1e-4)
        ),
        *(
            (
                {"cluster": {"gpus_per_actor": 2}, "model": model},
                f"x: cluster.gpus_per_actor is 2, but model.scorer {scorer} computes on one GPU: set it to 1 or 1/k",
            )
            for scorer, model in (("clip", {}), ("served", {"name": "transformers:x", "scorer": "served"}))
        ),
        ({"seed": -1}, "x: seed: -1: Input should be greater than or equal to 0"),
        (
            {"optimizer": {"method": "cma-es"}, "execution": {"mode": "async"}},
            "x: execution.mode is async, but optimizer.method cma-es compares the queries of a step: set",
        ),
        (
            {"optimizer": {"method": "gradient"}, "budget": {"queries": None, "seconds": 9}},
            "x: optimizer.method gradient lowers its learning rate over the whole run: give budget.queries or budget",
        ),
        (
            {"optimizer": {"method": "cma-es", "fitness_batches": 2}, "budget": {"queries": 29}},
            "x: budget.queries is 29, less than one step: give at least 30 (a step of optimizer.method cma-es)",
        ),
        (
            {"optimizer": {"method": "zip", "clip_norm": "none"}},
            "x: optimizer.clip_norm: 'none': Input should be 'intrinsic' or a valid number",
        ),
        (
            {"optimizer": {"sigmaa": 5}},
            "x: optimizer.sigmaa: unknown key; known with optimizer.method gauss-newton: method, loss, round_queries,",
        ),
        (
            {"optimizer": {"method": "cma-es", "sigmaa": 5}},
            "x: optimizer.sigmaa: unknown key; known with optimizer.method cma-es: method, loss, population, initial_",
        ),
        (
            {"prompt": {"space": "full", "foo": 1}},
            "x: prompt.foo: unknown key; known with prompt.space full: space, init, tokens, intrinsic_dimension,",
        ),
        ({"optimizer": {"method": "adam"}}, "x: optimizer.method: 'adam': choose gauss-newton, zip, spsa, spsa-gc,"),
        ({"prompt": {"space": "soft"}}, "x: prompt.space: 'soft': choose low-rank, full,"),
        ({"task": 3}, "x: task: 3: Input should be a mapping of fields"),
    ],
)
def test_faults_name_field_value_and_remedy(tree: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(tree, "x")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
