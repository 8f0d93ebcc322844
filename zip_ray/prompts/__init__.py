"""What is tuned: maps from the parameters `w` to a prompt. numpy only."""

from zip_ray.prompts.low_rank import LowRankSpace

__all__ = ["LowRankSpace"]
