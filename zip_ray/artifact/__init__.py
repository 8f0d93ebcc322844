"""The tuned prompt: its file, and the classifier made from it."""
