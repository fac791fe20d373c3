"""TrOCR models of the published shapes with random weights: as fast as the real ones, without a hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    DeiTConfig,
    DeiTImageProcessorPil,
    DeiTModel,
    TrOCRConfig,
    TrOCRForCausalLM,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)

_BUNDLED = Path("models/trocr-tiny")


def _small() -> VisionEncoderDecoderModel:
    encoder = DeiTModel(
        DeiTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, image_size=384)
    )
    return _with_decoder(
        encoder,
        vocab_size=64044,
        d_model=256,
        decoder_layers=6,
        decoder_attention_heads=8,
        decoder_ffn_dim=1024,
        activation_function="relu",
        scale_embedding=True,
        cross_attention_hidden_size=384,
    )


def _base() -> VisionEncoderDecoderModel:
    encoder = ViTModel(
        ViTConfig(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, image_size=384)
    )
    return _with_decoder(
        encoder,
        vocab_size=50265,
        d_model=1024,
        decoder_layers=12,
        decoder_attention_heads=16,
        decoder_ffn_dim=4096,
        activation_function="gelu",
        cross_attention_hidden_size=768,
    )


#: As the hub's configs have them.
SHAPES: Mapping[str, Callable[[], VisionEncoderDecoderModel]] = {"trocr-small": _small, "trocr-base": _base}


def _with_decoder(encoder: ViTModel | DeiTModel, **decoder: Any) -> VisionEncoderDecoderModel:
    config = TrOCRConfig(max_position_embeddings=512, tie_word_embeddings=False, **decoder)
    return VisionEncoderDecoderModel(encoder=encoder, decoder=TrOCRForCausalLM(config))


def write_random_model(folder: Path, shape: str) -> None:
    """Write a model in the hub's form; its tokenizer is the bundled model's and says nothing."""
    torch.manual_seed(7)
    model = SHAPES[shape]()
    with torch.no_grad():
        # As they are made, weights are so near zero that the first choice is hardly ahead of the second.
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0 if "decoder" in name else 1.5)
    wishes = {"decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1, "bos_token_id": 0}
    for name, value in wishes.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    processor = DeiTImageProcessorPil if isinstance(model.encoder, DeiTModel) else ViTImageProcessorPil
    size = {"height": 384, "width": 384}
    processor(size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    AutoTokenizer.from_pretrained(_BUNDLED).save_pretrained(folder)
