"""All of Ray: the actor that hosts a scorer, the pool, cluster start-up, jobs, metrics. Thin: no algorithm."""

from zip_ray.actors.cluster import connect
from zip_ray.actors.jobs import require_lasting
from zip_ray.actors.metrics import RayMetrics
from zip_ray.actors.ray_pool import RayPool

__all__ = ["RayMetrics", "RayPool", "connect", "require_lasting"]
