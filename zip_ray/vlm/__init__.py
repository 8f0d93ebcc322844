"""Generative vision-language models of transformers: loading, likelihoods of answers. Knows nothing of Ray."""
