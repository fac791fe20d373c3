"""TrOCR-family models with random weights, and what transformers itself reads with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
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
from transformers.models.trocr.modeling_trocr import TrOCRSinusoidalPositionalEmbedding

from worker.recognizer import LinePixels, LineRequest, Recognition
from worker.trocr import TrocrRecognizer, load_trocr
from worker.trocr_device import computing_with

# PyTorch's threads spin for each other: where another process wants a core too, two take ten times as long as one.
torch.set_num_threads(1)

#: Tokens that end a random model's line, so many that lines are of all lengths.
ENDS = range(20, 28)
BUNDLED = Path(__file__).resolve().parent.parent / "models" / "trocr-tiny"


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a random model differs from a small one of the usual build."""

    encoder: type[ViTModel | DeiTModel] = ViTModel
    image_size: int = 64
    decoder: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)


def save_random_model(folder: Path, shape: Shape) -> None:
    """Write a model in the hub's form, its weights far enough from zero that its tokens depend on what it sees and fed.

    Left alone such a model soon repeats one token for ever, so all are told to repeat no pair of tokens, and several
    tokens end a line.
    """
    torch.manual_seed(7)
    sizes: dict[str, Any] = {
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    encoder: ViTModel | DeiTModel
    if shape.encoder is DeiTModel:
        encoder = DeiTModel(DeiTConfig(image_size=shape.image_size, **sizes))
    else:
        encoder = ViTModel(ViTConfig(image_size=shape.image_size, **sizes))
    decoder_config = TrOCRConfig(
        **{
            "vocab_size": 149,
            "d_model": 32,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 64,
            "cross_attention_hidden_size": 48,
            "tie_word_embeddings": False,
            **shape.decoder,
        }
    )
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=TrOCRForCausalLM(decoder_config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2 if parameter.dim() > 1 else 0.1)
    wishes = {"decoder_start_token_id": 2, "eos_token_id": [2, *ENDS], "pad_token_id": 0, "no_repeat_ngram_size": 2}
    for name, value in {**wishes, **shape.generation}.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    processor = DeiTImageProcessorPil if shape.encoder is DeiTModel else ViTImageProcessorPil
    size = {"height": shape.image_size, "width": shape.image_size}
    processor(size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    AutoTokenizer.from_pretrained(BUNDLED).save_pretrained(folder)


def two_threads() -> AbstractContextManager[None]:
    """PyTorch computes with two threads while the block lasts."""
    return computing_with(2, else_with=torch.get_num_threads())


def bundled_recognizer(max_new_tokens: int) -> TrocrRecognizer:
    """The bundled model in float32, with four rows."""
    return load_trocr(BUNDLED, name="trocr-tiny", device="cpu", dtype="float32", rows=4, max_new_tokens=max_new_tokens)


def some_lines(count: int) -> dict[str, LinePixels]:
    """Lines of different sizes with random patches, large enough for random models to tell the lines apart."""
    random = np.random.default_rng(3)
    patch = np.ones((12, 12, 1), np.uint8)
    return {
        f"line{number}": np.kron(random.integers(0, 256, (2 + number // 3, 9 + 3 * number, 3), np.uint8), patch)
        for number in range(count)
    }


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What transformers reads in one line."""

    tokens: tuple[int, ...]
    confidence: float


def generated(
    recognizer: TrocrRecognizer, lines: Mapping[str, LinePixels], limit: int, *, beams: int = 1
) -> dict[str, Generated]:
    """What `generate(num_beams=beams, do_sample=False)` of the recognizer's own model reads, each line alone."""
    return {key: _generated(recognizer, pixels, limit, beams) for key, pixels in lines.items()}


def _generated(recognizer: TrocrRecognizer, pixels: LinePixels, limit: int, beams: int) -> Generated:
    checkpoint = recognizer.checkpoint
    _mend_positions(checkpoint.decoder)
    model: Any = checkpoint.model
    with torch.inference_mode():
        out = model.generate(
            checkpoint.preprocessed([pixels]),
            max_new_tokens=limit,
            num_beams=beams,
            do_sample=False,
            use_cache=True,
            output_scores=True,
            return_dict_in_generate=True,
        )
        # with beams, the scores are logarithms of probabilities already, and changed by the rules as they are summed
        scores = model.compute_transition_scores(
            out.sequences, out.scores, out.get("beam_indices"), normalize_logits=beams == 1
        )
    return Generated(tokens=tuple(out.sequences[0, 1:].tolist()), confidence=float(scores[0].mean().exp()))


def _mend_positions(decoder: TrOCRForCausalLM) -> None:
    """Give a loaded model with sinusoidal positions its table, which transformers 5.23 loads empty and cannot run."""
    embedding = decoder.model.decoder.embed_positions
    if isinstance(embedding, TrOCRSinusoidalPositionalEmbedding) and embedding.weights.is_meta:
        embedding.weights = embedding.get_embedding(
            embedding.weights.shape[0], embedding.embedding_dim, embedding.padding_idx
        )


def read_all(
    recognizer: TrocrRecognizer, lines: Mapping[str, LinePixels], *, at_once: int, steps_between: int = 0
) -> dict[str, tuple[tuple[int, ...], float | None]]:
    """Tokens and confidence of each line, admitted in groups with some steps between two groups."""
    waiting: Sequence[str] = list(lines)
    read: dict[str, Recognition] = {}
    for start in range(0, len(waiting), at_once):
        while recognizer.rows - (start - len(read)) < at_once:
            read.update(recognizer.step())
        recognizer.admit({key: LineRequest(pixels=lines[key]) for key in waiting[start : start + at_once]})
        for _ in range(steps_between):
            read.update(recognizer.step())
    while len(read) < len(lines):
        read.update(recognizer.step())
    return {key: (recognition.tokens, recognition.confidence) for key, recognition in read.items()}
