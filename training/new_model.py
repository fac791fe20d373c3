"""A small TrOCR-family model to train from scratch."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    DonutImageProcessor,
    TrOCRConfig,
    TrOCRForCausalLM,
    TrOCRProcessor,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTModel,
)

from training.labels import character_tokenizer

_PAD, _BOS, _EOS = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """The size of a new model: a ViT over columns of the line, and a TrOCR decoder."""

    #: Lines are scaled to this height.
    height_px: int = 48
    #: Lines are padded to this width; longer ones are scaled down to it. A multiple of twice `column_px`.
    width_px: int = 960
    #: Width of a patch, which is as high as the line.
    column_px: int = 6
    #: Features of a column and of a token.
    width: int = 192
    encoder_layers: int = 6
    decoder_layers: int = 2
    heads: int = 4
    #: The most tokens that the decoder can write.
    max_tokens: int = 126


def new_processor(shape: ModelShape) -> TrOCRProcessor:
    """Build a processor that keeps the aspect ratio and pads with black around the line."""
    images = DonutImageProcessor(
        size={"height": shape.height_px, "width": shape.width_px},
        do_resize=True,
        do_thumbnail=True,
        do_align_long_axis=False,
        do_pad=True,
        resample=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return TrOCRProcessor(image_processor=images, tokenizer=character_tokenizer())  # type: ignore[no-untyped-call]


def new_model(shape: ModelShape, *, vocabulary: int) -> VisionEncoderDecoderModel:
    """Build a model with random weights, whose encoder begins by looking at the columns beside each column."""
    encoder = ViTConfig(
        image_size=[shape.height_px, shape.width_px],
        patch_size=[shape.height_px, shape.column_px],
        hidden_size=shape.width,
        intermediate_size=4 * shape.width,
        num_hidden_layers=shape.encoder_layers,
        num_attention_heads=shape.heads,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    decoder = TrOCRConfig(
        vocab_size=vocabulary,
        d_model=shape.width,
        decoder_layers=shape.decoder_layers,
        decoder_attention_heads=shape.heads,
        decoder_ffn_dim=4 * shape.width,
        cross_attention_hidden_size=shape.width,
        max_position_embeddings=shape.max_tokens + 2,
        dropout=0.0,
        is_decoder=True,
        add_cross_attention=True,  # type: ignore[call-arg]
        use_cache=True,
        pad_token_id=_PAD,
        bos_token_id=_BOS,
        eos_token_id=_EOS,
        decoder_start_token_id=_BOS,
    )
    vit = ViTModel(encoder, add_pooling_layer=False)
    model = VisionEncoderDecoderModel(encoder=vit, decoder=TrOCRForCausalLM(decoder))
    _look_beside(model.encoder)
    model.generation_config.bos_token_id = _BOS
    set_generation(model, start=_BOS, pad=_PAD, eos=_EOS, max_new_tokens=shape.max_tokens)
    return model


def set_generation(model: VisionEncoderDecoderModel, *, start: int, pad: int, eos: int, max_new_tokens: int) -> None:
    """State in config and generation config how the model writes: greedy, cached, with an honest limit."""
    model.config.decoder_start_token_id = start
    model.config.pad_token_id = pad
    model.config.eos_token_id = eos
    generation = model.generation_config
    generation.decoder_start_token_id = start
    generation.pad_token_id = pad
    generation.eos_token_id = eos
    generation.max_new_tokens = max_new_tokens
    generation.max_length = None
    generation.use_cache = True


@torch.no_grad()
def _look_beside(encoder: Any) -> None:
    """Start from attention that looks one and two columns to either side.

    Positions are sines of several frequencies; queries and keys of each head begin as the rotation that carries a
    column's position to that of its neighbour, so that a layer begins much like a convolution along the line.

    Source:
        After Mimetic Initialization of Self-Attention Layers, arXiv 2305.09828; offsets as in ConViT, arXiv 2103.10697.
    """
    heads = encoder.config.num_attention_heads
    head_width = encoder.config.hidden_size // heads
    frequencies = math.pi * ((torch.arange(head_width // 2) + 0.5) / (head_width // 2)) ** 1.5
    positions = encoder.embeddings.position_embeddings
    angles = torch.arange(positions.shape[1] - 1)[:, None] * frequencies
    positions.normal_(0.0, 0.01)
    positions[0, 1:, :head_width] += torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
    for layer in encoder.layers:
        for head, offset in zip(range(heads), (-2, -1, 1, 2) * heads, strict=False):
            rows = slice(head * head_width, (head + 1) * head_width)
            layer.attention.q_proj.weight[rows, :head_width] += 1.3 * torch.eye(head_width)
            layer.attention.k_proj.weight[rows, :head_width] += 1.3 * _rotation(frequencies * offset)


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    """Block-diagonal rotation by `-angles` of (sine, cosine) pairs, float32 of shape (2n, 2n)."""
    rotation = torch.zeros(2 * len(angles), 2 * len(angles))
    for pair, angle in enumerate(angles.tolist()):
        turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        rotation[2 * pair : 2 * pair + 2, 2 * pair : 2 * pair + 2] = torch.tensor(turn)
    return rotation
