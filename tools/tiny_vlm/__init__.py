"""The tiny vision-language model that ships with the package: its questions, its training script, its card."""
