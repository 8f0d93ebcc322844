"""The tiny model before it is trained: LLaVA around the shipped small CLIP's image tower, and a processor."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from tools.small_clip.train import MODEL_CONFIG, PREPROCESS_CONFIG
from zip_ray.clip.loading import load_clip
from zip_ray.config.model import ModelConfig

VISION = MODEL_CONFIG["vision_cfg"]
WIDTH, LAYERS, HEADS, KEY_VALUE_HEADS, INNER = 96, 3, 4, 2, 256
"""Of the decoder."""
TOKENS = 560
"""Of the tokenizer, at most."""
CONTEXT = 512
"""Positions of the decoder."""
PAD, START, END, IMAGE = "<pad>", "<s>", "</s>", "<image>"
CHAT = (
    f"{{% for message in messages %}}{{% if message.role == 'user' %}}{START}"
    "{% for part in message.content %}{% if part.type == 'image' %}" + IMAGE + "{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{{ '\\n' }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}"
    + END
    + "{% endif %}"
    "{% endfor %}"
)
"""Image, question, a line's end, answer."""
RENAMED = (
    (r"^class_embedding", "embeddings.class_embedding"),
    (r"^positional_embedding", "embeddings.position_embedding.weight"),
    (r"^conv1", "embeddings.patch_embedding"),
    (r"^ln_pre", "pre_layrnorm"),  # as transformers spells it
    (r"^ln_post", "post_layernorm"),
    (r"^transformer\.resblocks", "encoder.layers"),
    (r"\.ln_(\d)", r".layer_norm\1"),
    (r"\.attn\.out_proj", ".self_attn.out_proj"),
    (r"\.mlp\.c_fc", ".mlp.fc1"),
    (r"\.mlp\.c_proj", ".mlp.fc2"),
)
"""Names of open_clip's image tower, and those of transformers' `CLIPVisionModel`."""


def convert_tower(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of open_clip's image tower by the names of transformers; its projection is left out."""
    converted: dict[str, Tensor] = {}
    for name, weight in state.items():
        if name == "proj":
            continue
        if ".attn.in_proj_" in name:
            layer, kind = name.replace("transformer.resblocks", "encoder.layers").split(".attn.in_proj_")
            parts = zip("qkv", weight.chunk(3), strict=True)
            converted |= {f"{layer}.self_attn.{part}_proj.{kind}": one.clone() for part, one in parts}
            continue
        for pattern, other in RENAMED:
            name = re.sub(pattern, other, name)
        converted[name] = weight.clone()
    return converted


def vision_config() -> CLIPVisionConfig:
    """The small CLIP's image tower."""
    return CLIPVisionConfig(
        hidden_size=VISION["width"],
        intermediate_size=4 * VISION["width"],
        num_hidden_layers=VISION["layers"],
        num_attention_heads=VISION["width"] // VISION["head_width"],
        image_size=VISION["image_size"],
        patch_size=VISION["patch_size"],
        projection_dim=MODEL_CONFIG["embed_dim"],
        hidden_act="gelu",
    )


def image_tower() -> CLIPVisionModel:
    """The shipped small CLIP's image tower, frozen."""
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(convert_tower(load_clip(ModelConfig(), "cpu").model.visual.state_dict()))
    return tower.eval().requires_grad_(False)


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE of these texts."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [PAD, START, END, IMAGE]
    made.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=START,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens={"image_token": IMAGE},
    )


def make_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """Pixels as the small CLIP takes them; 65 tokens per image: the class token's and those of 64 patches."""
    side = VISION["image_size"]
    images = CLIPImageProcessor(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=PREPROCESS_CONFIG["mean"],
        image_std=PREPROCESS_CONFIG["std"],
        resample=3,  # bicubic
        do_convert_rgb=True,
    )
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=VISION["patch_size"],
        vision_feature_select_strategy="full",
        num_additional_image_tokens=1,
        chat_template=CHAT,
    )


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlavaForConditionalGeneration:
    """The image tower, and a projector and a decoder with random weights, standard deviation 1 / sqrt(width): with the
    usual 0.02 the decoder learns the language and not the image."""
    torch.manual_seed(seed)  # transformers' initialisers take no generator
    text = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=len(tokenizer),
        max_position_embeddings=CONTEXT,
        initializer_range=WIDTH**-0.5,
        tie_word_embeddings=True,
        **_special_ids(tokenizer),
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=1 + (VISION["image_size"] // VISION["patch_size"]) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower = image_tower()
    return model


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    names = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}
