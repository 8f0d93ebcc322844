"""All of Ray: the actor that hosts a scorer, the pool, cluster start-up, jobs, metrics. Thin: no algorithm."""
