"""zip-ray: tune the prompt of a frozen vision-language model with forward passes only."""
