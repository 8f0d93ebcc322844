"""The config: sections in a tree, YAML in, clear errors out."""
