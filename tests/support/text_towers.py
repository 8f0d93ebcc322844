"""Small models, one for every text-tower class of open_clip."""

from collections.abc import Callable

import open_clip
import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import nn

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}


EVA_VISION = {"image_size": 28, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None}


TEXT = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


MULTIMODAL = {**TEXT, "mlp_ratio": 2, "attn_pooler_heads": 2, "dim_head": 16, "heads": 2, "n_queries": 4}


TOWERS: dict[str, Callable[[], nn.Module]] = {
    "CLIP": lambda: CLIP(16, VISION, TEXT),
    "CLIP with QuickGELU": lambda: CLIP(16, VISION, TEXT, quick_gelu=True),
    "CLIP with a ResNet": lambda: CLIP(16, {**VISION, "image_size": 32, "layers": [1, 1, 1, 1]}, TEXT),
    "CLIP that pools by id, with LayerScale": lambda: CLIP(
        16, VISION, {**TEXT, "pool_type": "eos", "eos_id": 49407, "ls_init_value": 0.5}
    ),
    "CustomTextCLIP": lambda: CustomTextCLIP(16, VISION, TEXT),
    "EVA": lambda: CustomTextCLIP(16, EVA_VISION, TEXT),
    "CoCa": lambda: CoCa(
        16,
        MULTIMODAL,
        {**TEXT, "embed_cls": True, "output_tokens": True},
        {**VISION, "attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True},
    ),
    "MobileCLIP": lambda: CustomTextCLIP(16, VISION, {**TEXT, "no_causal_mask": True}),
    "other blocks": lambda: CustomTextCLIP(16, VISION, {**TEXT, "qk_norm": True}),
    "SigLIP": lambda: CustomTextCLIP(
        16, VISION, {**TEXT, "no_causal_mask": True, "pool_type": "last", "proj_bias": True}, init_logit_bias=-10
    ),
}


PLAIN = {
    "SigLIP": "the tower is not causal",
    "MobileCLIP": "the tower is not causal",
    "other blocks": "TextTransformer has other blocks than open_clip's standard ones",
}


CAUSAL = [name for name in TOWERS if name not in PLAIN]


TOKENIZER = open_clip.SimpleTokenizer(context_length=24)


MODELS: dict[str, nn.Module] = {}


def model_of(name: str) -> nn.Module:
    """Built once, with its weights spread so that attention has something to choose between."""
    if name not in MODELS:
        torch.manual_seed(0)
        model = TOWERS[name]().float().eval().requires_grad_(False)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        MODELS[name] = model
    return MODELS[name]
