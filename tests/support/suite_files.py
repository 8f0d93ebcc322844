"""A small suite for the tests of suites."""

from pathlib import Path

import yaml

BASE = {
    "task": {"batch_size": 20},
    "prompt": {"init": "template", "intrinsic_dimension": 60},
    "optimizer": {"method": "zip", "pairs_per_step": 1},
    "budget": {"queries": 20},
    "validation": {"every_queries": 10},
    "cluster": {"pool": "in-process"},
    "tracking": {"enabled": False},
}


def suite_file(folder: Path, **fields: object) -> str:
    tree = {
        "name": "mini",
        "shots": [2],
        "seeds": [1, 2],
        "tasks": ["digits"],
        "methods": {"ZIP": {}, "SPSA": {"optimizer": {"method": "spsa"}}},
        "base": BASE,
        **fields,
    }
    (folder / "mini.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return "mini.yaml"
