"""Section `output`: where the run is written."""

from zip_ray.config.section import Count, Place, Section


class OutputConfig(Section):
    """Where the run is written."""

    dir: Place | None = None
    """Run folder, which must not exist; absent = runs/TASK-DATE-TIME."""
    remote: str | None = None
    """URI of a folder that gets a copy of the run folder while the run goes on, on any storage that fsspec knows, such
    as s3://BUCKET/runs/NAME (needs zip-ray[remote] and that storage's driver). `zip-ray resume URI` goes on from it."""
    checkpoint_every_steps: Count = 10
    """Steps between two checkpoints: what a killed driver has to do again."""
