"""Messages between driver and scorers, and computations that are the same at both ends."""
