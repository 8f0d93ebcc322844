"""The library's own forward pass of CLIP: images re-encoded, prompts through a patched token table."""

from collections.abc import Sequence

import open_clip
import torch
from PIL import Image

from zip_ray.clip.loading import resolve_name
from zip_ray.config.tree import Config
from zip_ray.protocol.arrays import Float32


def plain_logits(
    config: Config, context: Float32 | str, images: Sequence[Image.Image], names: Sequence[str], suffix: str = "."
) -> Float32:
    """Logits, shape (images, classes).

    Args:
        config: its model.
        context: shape (m, width), before each name; or a whole sentence with {} for the name.
        images: of any size.
        names: of the classes.
        suffix: behind each name, where a context is given.
    """
    name = resolve_name(config.model.name)
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()
    with torch.no_grad():
        if isinstance(context, str):
            ids = tokenizer([context.replace("{}", one) for one in names])
        else:
            m = len(context)
            # Words that no class name uses; the context's vectors become their embeddings.
            unused = list(range(40_000, 40_000 + m))
            ids = tokenizer([f"{' '.join(['x'] * m)} {one}{suffix}" for one in names])
            ids[:, 1 : 1 + m] = torch.tensor(unused)
            model.token_embedding.weight[unused] = torch.from_numpy(context)
        logits, _ = model.get_logits(torch.stack([preprocess(image) for image in images]), ids)
        return logits.numpy()
