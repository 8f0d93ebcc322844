"""All of Ray: the actor that hosts a scorer, the pool, cluster start-up. Thin: no algorithm."""

from actors.cluster import connect
from actors.pool import RayPool

__all__ = ["RayPool", "connect"]
