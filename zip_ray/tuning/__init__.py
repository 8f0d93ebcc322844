"""The tuning loop, and its account of queries."""
