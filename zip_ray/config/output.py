"""Section `output`: where the run is written."""

from zip_ray.config.section import Count, Place, Section


class OutputConfig(Section):
    """Where the run is written."""

    dir: Place | None = None
    """Run folder; it must not exist. Default: runs/TASK-DATE-TIME."""
    remote: str | None = None
    """URI of a copy of the run folder, such as s3://BUCKET/NAME. The copy is kept while the run proceeds, on any
    storage that fsspec supports (needs zip-ray[remote] and that storage's driver). `zip-ray resume URI` continues from
    it."""
    checkpoint_every_steps: Count = 10
    """Steps between two checkpoints. After a crash of the driver, at most this many are repeated."""
