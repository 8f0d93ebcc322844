"""What travels between driver and scorers, and what both ends compute alike."""
