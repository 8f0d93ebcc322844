"""Text towers and tokenizers of transformers, of each architecture that open_clip lists, tiny and untrained."""

from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from torch import nn

from tests.support.text_towers import VISION
from zip_ray.clip.plain_text import PromptEncoder, encode_texts, word_embeddings
from zip_ray.clip.shared_prefix import make_encoder
from zip_ray.errors import InputError

transformers = pytest.importorskip("transformers", reason="needs the huggingface extra")
tokenizers = pytest.importorskip("tokenizers", reason="needs the huggingface extra")

WORDS = "a photo of the digit"
NAMES = ["3", "seven", "x ray fish", "great white shark of the deep sea"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
ENCODER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TRANSLATOR = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("RobertaConfig", {**ENCODER, "max_position_embeddings": 66}),
    "xlm-roberta": ("XLMRobertaConfig", {**ENCODER, "max_position_embeddings": 66}),
    "bert": ("BertConfig", {**ENCODER, "max_position_embeddings": 64}),
    # Takes texts of any length.
    "mt5": ("MT5Config", {"d_model": 32, "d_ff": 64, "d_kv": 16, "num_layers": 2, "num_heads": 2}),
    # Scales the embeddings it looks up.
    "m2m_100": ("M2M100Config", {**TRANSLATOR, "scale_embedding": True, "decoder_layers": 1}),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer, for which a word after a space is a different token from one at the start."""
    folder = tmp_path_factory.mktemp("tokenizer")
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=SPECIAL, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(["X X X X", f"{WORDS} 3.", *NAMES], trainer)
    inner.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> open_clip.tokenizer.HFTokenizer:
    return open_clip.tokenizer.HFTokenizer(str(folder), context_length=32)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tokenizer, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    kind, sizes = ARCHITECTURES[request.param]
    where = tmp_path_factory.mktemp("tower")
    vocabulary = {"vocab_size": len(tokenizer.tokenizer), "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    getattr(transformers, kind)(**sizes, **vocabulary).save_pretrained(where)
    text = {"hf_model_name": str(where), "hf_model_pretrained": False}
    torch.manual_seed(0)
    return CustomTextCLIP(16, VISION, text).float().eval().requires_grad_(False)


def test_soft_prompt_of_words_is_the_words(model: nn.Module, tokenizer) -> None:
    context = word_embeddings(model, tokenizer, WORDS).unsqueeze(0)
    soft = PromptEncoder(model, tokenizer, NAMES, context.shape[1]).encode(context)[0]
    plain = encode_texts(model, tokenizer, [f"{WORDS} {name}." for name in NAMES])
    np.testing.assert_allclose(soft.numpy(), plain.numpy(), atol=1e-6)
    with torch.no_grad():
        library = model.encode_text(tokenizer([f"{WORDS} {name}." for name in NAMES]), normalize=True)
    np.testing.assert_allclose(plain.numpy(), library.numpy(), atol=1e-6)


def test_the_context_matters_and_contexts_do_not_mix(model: nn.Module, tokenizer) -> None:
    encoder, what = make_encoder(model, tokenizer, NAMES, 4, ".")
    assert what == "plain pass: HFTextEncoder has other blocks than open_clip's standard ones"
    contexts = 0.5 * torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(1))
    together = encoder.encode(contexts)
    assert together.shape == (3, 4, 16)
    assert (together[0] - together[1]).abs().max() > 1e-4
    for i in range(3):
        np.testing.assert_allclose(together[i].numpy(), encoder.encode(contexts[i : i + 1])[0].numpy(), atol=1e-5)


def test_too_long_a_prompt_names_its_class(model: nn.Module, tokenizer) -> None:
    long = " ".join(["great white shark"] * 9)
    with pytest.raises(InputError, match=r"'great white .*: the prompt of this class has at least \d+ tokens"):
        PromptEncoder(model, tokenizer, [long], 8)
