"""All of Ray: the actor that hosts a scorer, the pool, cluster start-up, jobs, metrics. Thin: no algorithm."""

from actors.cluster import connect
from actors.jobs import require_lasting
from actors.metrics import RayMetrics
from actors.pool import RayPool

__all__ = ["RayMetrics", "RayPool", "connect", "require_lasting"]
