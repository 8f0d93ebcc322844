"""A pool that stays open over many runs, one after another or side by side."""

from types import TracebackType

from zip_ray.config.resources import ClusterConfig
from zip_ray.config.scorer_key import scorer_key
from zip_ray.config.tree import Config
from zip_ray.pool.contract import Pool
from zip_ray.pool.shared import PoolHub
from zip_ray.pool.splitting import split_if_asked


class KeptPool:
    """Actors that keep their loaded model from one run to the next, so that a sweep loads it once."""

    def __init__(self, pool: Pool, cluster: ClusterConfig) -> None:
        """Take over a pool whose scorers are `MultiScorer`s.

        Args:
            pool: is closed with this.
            cluster: what it was opened with; the runs have it too.
        """
        self._pool, self.cluster = pool, cluster
        self._hub = PoolHub(pool)

    def __enter__(self) -> "KeptPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def of_run(self, config: Config) -> Pool:
        """The pool for one run; closing it leaves the actors running."""
        return split_if_asked(self._hub.channel(scorer_key(config)), config)

    def close(self) -> None:
        """End the actors. May be called twice."""
        self._hub.close()
        self._pool.close()
