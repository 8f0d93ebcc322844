"""The frozen model: loading through open_clip, soft prompts, image features, the scorer. Knows nothing of Ray."""
