"""Programs that made the shipped models."""
