"""The frozen model: loading through open_clip, soft prompts, image features. Independent of Ray."""
