"""Generative vision-language models of transformers: loading, likelihoods of answers. Independent of Ray."""
