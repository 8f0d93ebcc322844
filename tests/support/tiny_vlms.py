"""Generative models of a few thousand random weights, one per family, with processors built here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = [
    *("<pad>", "<s>", "</s>", "<image>", "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|vision_start|>", "<|vision_end|>", "<video>", "<fake_token_around_image>", "<global-img>"),
    *("<end_of_utterance>", "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
    *("<img>", "</img>", "<IMG_CONTEXT>"),
]
VOCABULARY = 256 + len(SPECIAL)
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}IMAGE{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EYE: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "initializer_range": 0.2,
}
Made = tuple[Any, Any]
"""Model and processor."""


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """One token per byte, plus the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens=special
    )


def token(name: str) -> int:
    """The id of a special token."""
    return SPECIAL.index(name)


def chat(image: str) -> str:
    """A chat template whose image is this text."""
    return CHAT.replace("IMAGE", image)


def llava() -> Made:
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(**EYE, projection_dim=16),
        text_config=tf.LlamaConfig(**TEXT),
        image_token_index=token("<image>"),
        vision_feature_layer=-1,
    )
    processor = tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16),
        tokenizer(),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat("<image>\n"),
    )
    return tf.LlavaForConditionalGeneration(config), processor


def llava_next() -> Made:
    config = tf.LlavaNextConfig(
        vision_config=tf.CLIPVisionConfig(**EYE, projection_dim=16),
        text_config=tf.MistralConfig(**TEXT, sliding_window=None),
        image_token_index=token("<image>"),
        image_grid_pinpoints=[[16, 32], [32, 16], [32, 32]],
        vision_feature_layer=-1,
    )
    processor = tf.LlavaNextProcessor(
        tf.LlavaNextImageProcessor(
            size={"shortest_edge": 16}, crop_size=16, image_grid_pinpoints=config.image_grid_pinpoints
        ),
        tokenizer(),
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat("<image>\n"),
    )
    return tf.LlavaNextForConditionalGeneration(config), processor


def llava_onevision() -> Made:
    eye = {**EYE, "vision_use_head": False}
    config = tf.LlavaOnevisionConfig(
        vision_config=tf.SiglipVisionConfig(**eye),
        text_config=tf.Qwen2Config(**TEXT),
        image_token_index=token("<image>"),
        video_token_index=token("<video>"),
        image_grid_pinpoints=[[16, 16], [16, 32], [32, 32]],
        vision_feature_layer=-1,
        vision_aspect_ratio="anyres_max_9",
    )
    processor = tf.LlavaOnevisionProcessor(
        tf.LlavaOnevisionImageProcessor(
            size={"height": 16, "width": 16}, image_grid_pinpoints=config.image_grid_pinpoints
        ),
        tokenizer(),
        tf.LlavaOnevisionVideoProcessor(size={"height": 16, "width": 16}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat("<image>\n"),
    )
    return tf.LlavaOnevisionForConditionalGeneration(config), processor


ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
QWEN_TOKENS = {
    "image_token_id": token("<|image_pad|>"),
    "video_token_id": token("<|video_pad|>"),
    "vision_start_token_id": token("<|vision_start|>"),
    "vision_end_token_id": token("<|vision_end|>"),
}
QWEN_EYE: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_heads": 2,
    "patch_size": 4,
    "out_hidden_size": 32,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "initializer_range": 0.2,
}
QWEN_PIXELS = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 256, "max_pixels": 1024}
QWEN_CHAT = chat("<|vision_start|><|image_pad|><|vision_end|>")


def qwen2_5_vl() -> Made:
    eye = {**QWEN_EYE, "window_size": 16, "fullatt_block_indexes": [1]}
    config = tf.Qwen2_5_VLConfig(vision_config=eye, text_config={**TEXT, "rope_parameters": ROPE}, **QWEN_TOKENS)
    processor = tf.Qwen2_5_VLProcessor(
        tf.Qwen2VLImageProcessor(**QWEN_PIXELS),
        tokenizer(),
        tf.Qwen2VLVideoProcessor(**QWEN_PIXELS),
        chat_template=QWEN_CHAT,
    )
    return tf.Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> Made:
    eye = {**QWEN_EYE, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
    text = {**TEXT, "head_dim": 8, "rope_parameters": {**ROPE, "mrope_interleaved": True}}
    config = tf.Qwen3VLConfig(vision_config=eye, text_config=text, **QWEN_TOKENS)
    processor = tf.Qwen3VLProcessor(
        tf.Qwen2VLImageProcessor(**QWEN_PIXELS),
        tokenizer(),
        tf.Qwen3VLVideoProcessor(**QWEN_PIXELS),
        chat_template=QWEN_CHAT,
    )
    return tf.Qwen3VLForConditionalGeneration(config), processor


def internvl() -> Made:
    eye = {**EYE, "image_size": [16, 16], "patch_size": [4, 4]}
    config = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(**eye),
        text_config=tf.Qwen2Config(**TEXT),
        image_token_id=token("<IMG_CONTEXT>"),
        image_seq_length=4,
        vision_feature_layer=-1,
    )
    own = tokenizer(
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>"
    )
    processor = tf.InternVLProcessor(
        tf.GotOcr2ImageProcessor(size={"height": 16, "width": 16}, crop_to_patches=True, max_patches=2),
        own,
        tf.InternVLVideoProcessor(size={"height": 16, "width": 16}),
        image_seq_length=4,
        chat_template=chat("<IMG_CONTEXT>\n"),
    )
    return tf.InternVLForConditionalGeneration(config), processor


def _split_images() -> Any:
    """A processor that cuts images into tiles; SmolVLM's own needs another package, for videos."""
    return tf.Idefics3Processor(
        tf.Idefics3ImageProcessor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16}),
        tokenizer(),
        image_seq_len=4,
        chat_template=chat("<image>"),
    )


def smolvlm() -> Made:
    eye = {**EYE, "image_size": 16}
    config = tf.SmolVLMConfig(
        vision_config=tf.SmolVLMVisionConfig(**eye),
        text_config=tf.LlamaConfig(**TEXT),
        image_token_id=token("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    return tf.SmolVLMForConditionalGeneration(config), _split_images()


def idefics3() -> Made:
    config = tf.Idefics3Config(
        vision_config=tf.models.idefics3.Idefics3VisionConfig(**EYE),
        text_config=tf.LlamaConfig(**TEXT),
        image_token_id=token("<image>"),
        scale_factor=2,
        pad_token_id=0,
    )
    return tf.Idefics3ForConditionalGeneration(config), _split_images()


def gemma3() -> Made:
    text = {
        **TEXT,
        "head_dim": 8,
        "sliding_window": 12,
        "layer_types": ["sliding_attention", "full_attention"],
        "final_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 8,
    }
    config = tf.Gemma3Config(
        vision_config=tf.SiglipVisionConfig(**EYE, vision_use_head=False),
        text_config=tf.Gemma3TextConfig(**text),
        image_token_index=token("<image_soft_token>"),
        boi_token_index=token("<start_of_image>"),
        eoi_token_index=token("<end_of_image>"),
        mm_tokens_per_image=4,
    )
    processor = tf.Gemma3Processor(
        tf.Gemma3ImageProcessor(size={"height": 16, "width": 16}),
        tokenizer(
            image_token="<image_soft_token>",
            boi_token="<start_of_image>",
            eoi_token="<end_of_image>",
        ),
        image_seq_length=4,
        chat_template=chat("<start_of_image>"),
    )
    model = tf.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # zero at creation
    return model, processor


def paligemma() -> Made:
    config = tf.PaliGemmaConfig(
        vision_config=tf.SiglipVisionConfig(**EYE, vision_use_head=False),
        text_config=tf.GemmaConfig(**TEXT, head_dim=8),
        image_token_index=token("<image>"),
        projection_dim=32,
    )
    processor = tf.PaliGemmaProcessor(
        tf.SiglipImageProcessor(size={"height": 16, "width": 16}, image_seq_length=16),
        tokenizer(image_token="<image>"),
    )
    return tf.PaliGemmaForConditionalGeneration(config), processor


EQUAL: dict[str, Callable[[], Made]] = {
    "llava": llava,
    "llava-next": llava_next,
    "llava-onevision": llava_onevision,
    "qwen2.5-vl": qwen2_5_vl,
    "qwen3-vl": qwen3_vl,
    "internvl": internvl,
    "smolvlm": smolvlm,
    "idefics3": idefics3,
    "gemma3": gemma3,
}
"""Families whose tree pass is exact."""
FAMILIES = {**EQUAL, "paligemma": paligemma}


def make(family: str, seed: int = 0) -> Made:
    """A random model of a family and its processor."""
    torch.manual_seed(seed)
    model, processor = FAMILIES[family]()
    return model.eval(), processor


def save(family: str, folder: Path, seed: int = 0) -> str:
    """Write one to a folder; returns the name it is loaded by."""
    model, processor = make(family, seed)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return f"transformers:{folder}"
