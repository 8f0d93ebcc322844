"""zip-ray: tune the prompt of a frozen vision-language model with forward passes only."""

__version__ = "0.1.0"
