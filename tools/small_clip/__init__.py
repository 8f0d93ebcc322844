"""The small CLIP that ships with the package: its renderer, its training script, its weights."""
