"""The loop that tunes, and its account of queries."""
