"""A checkpoint in training: the model, and beside it a CTC head over the encoder's columns, not needed to read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that every PyTorch text uses
from safetensors.torch import load_file
from torch import nn
from transformers import VisionEncoderDecoderModel
from transformers.models.trocr.modeling_trocr import TrOCRDecoder, TrOCRDecoderLayer

from training.alignment import align_columns
from training.batches import Batch
from training.line_pixels import LineFormat, normalized

#: The CTC head beside a model's weights; it is not needed to read, but to learn on.
CTC_HEAD_FILE = "ctc_head.safetensors"
#: Weights of the losses beside the decoder's cross-entropy: CTC in the middle of the encoder, and attention's guidance.
_MIDDLE_CTC_SHARE = 0.5
_GUIDE_WEIGHT = 0.3
#: Heads of each decoder layer that are told where the next character stands; the others are free.
_GUIDED_HEADS = 2


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one batch costs; scalars that carry gradients."""

    #: The sum that is minimised.
    total: torch.Tensor
    #: The decoder's cross-entropy per token, nats.
    cross_entropy: torch.Tensor
    #: CTC per token, nats; 0 without the head.
    ctc: torch.Tensor


class HybridReader(nn.Module):
    """Computes the hybrid loss: cross-entropy, CTC over columns, and guided cross-attention.

    The CTC head shows the encoder what to look for long before the decoder can; its alignment tells two heads of each
    decoder layer where to look, without which the decoder takes far longer to find its place in the line.
    """

    def __init__(self, model: VisionEncoderDecoderModel, line_format: LineFormat, *, ctc_weight: float) -> None:
        """Take the model; without columns in its encoder there is no CTC head, whatever the weight."""
        super().__init__()
        self.model = model
        self.line_format = line_format
        self.column_px = column_px(model)
        self.ctc_weight = ctc_weight if self.column_px else 0.0
        encoder: Any = model.config.encoder
        decoder: Any = model.config.decoder
        self._vocabulary = int(decoder.vocab_size)
        self.ctc_head = nn.Linear(encoder.hidden_size, self._vocabulary) if self.ctc_weight else None

    def load_ctc_head(self, folder: Path) -> None:
        """Take the head that a model of ours keeps beside its weights; without one, the head starts anew."""
        file = folder / CTC_HEAD_FILE
        if self.ctc_head is not None and file.is_file():
            self.ctc_head.load_state_dict(load_file(file))

    @property
    def line_tokens(self) -> int:
        """Encoder tokens of a line at full width."""
        config: Any = self.model.config.encoder
        height, width = _pair(config.image_size)
        rows, columns = _pair(config.patch_size)
        return (height // rows) * (width // columns) + 1

    def losses(self, batch: Batch, *, corruption: float) -> Losses:
        """Compute the losses of one batch.

        Args:
            batch: Lines and their tokens.
            corruption: Share of the decoder's input tokens that are replaced at random.
        """
        states, middle = self._encode(batch.pixels)
        inputs, targets = batch.tokens[:, :-1], batch.tokens[:, 1:]
        decoded = self.model.decoder(
            _corrupted(inputs, corruption, vocabulary=self._vocabulary),
            encoder_hidden_states=states,
            use_cache=False,
            output_attentions=self.ctc_head is not None,
        )
        ignored = torch.arange(targets.shape[1], device=targets.device)[None] > batch.lengths[:, None]
        cross_entropy = F.cross_entropy(
            decoded.logits.float().flatten(0, 1), targets.masked_fill(ignored, -100).flatten(), ignore_index=-100
        )
        if self.ctc_head is None:
            return Losses(total=cross_entropy, cross_entropy=cross_entropy, ctc=torch.zeros(()))
        log_probs = _log_probs(self.ctc_head, states)
        ctc = _ctc(log_probs, batch)
        middle_ctc = _ctc(_log_probs(self.ctc_head, middle), batch)
        guide = _guide(decoded.cross_attentions, log_probs.detach(), batch)
        total = cross_entropy + self.ctc_weight * (ctc + _MIDDLE_CTC_SHARE * middle_ctc) + _GUIDE_WEIGHT * guide
        return Losses(total=total, cross_entropy=cross_entropy, ctc=ctc)

    def ctc_log_probs(self, pixels: torch.Tensor) -> torch.Tensor:
        """Give the log-probabilities of the CTC head: (B, T, V), class 0 is blank, for uint8 grey (B, H, W)."""
        if self.ctc_head is None:
            raise ValueError("this reader has no CTC head")
        states, _ = self._encode(pixels)
        return _log_probs(self.ctc_head, states)

    def _encode(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode uint8 grey (B, H, W); W may be less than the full width when patches are columns.

        Returns:
            The states after the last layer and, when patches are columns, after the middle one, (B, 1 + T, D).
        """
        encoder: Any = self.model.encoder
        values = normalized(pixels, self.line_format, next(encoder.parameters()).dtype)
        if not self.column_px:
            states = encoder(pixel_values=values[:, None].expand(-1, 3, -1, -1)).last_hidden_state
            return states, states
        states = self._embed_columns(values)
        middle = states
        for index, layer in enumerate(encoder.layers):
            states = layer(states)
            if index + 1 == len(encoder.layers) // 2:
                middle = states
        return encoder.layernorm(states), encoder.layernorm(middle)

    def _embed_columns(self, values: torch.Tensor) -> torch.Tensor:
        """Embed the middle of the encoder's width, with the positions that these columns have in a padded line."""
        encoder: Any = self.model.encoder
        embeddings = encoder.embeddings
        columns = values.shape[2] // self.column_px
        patches = values.view(*values.shape[:2], columns, self.column_px).transpose(1, 2).flatten(2)
        projection = embeddings.patch_embeddings.projection
        first = 1 + (self.line_tokens - 1 - columns) // 2
        positions = embeddings.position_embeddings
        embedded = F.linear(patches, projection.weight.sum(1).flatten(1), projection.bias)
        embedded = embedded + positions[:, first : first + columns]
        whole_line = (embeddings.cls_token + positions[:, :1]).expand(len(values), -1, -1)
        return torch.cat((whole_line, embedded), dim=1)


def column_px(model: VisionEncoderDecoderModel) -> int:
    """Give the width of a patch when patches are columns (a ViT with patches as high as the image), else 0."""
    config: Any = model.config.encoder
    if config.model_type != "vit":
        return 0
    patch_height, patch_width = _pair(config.patch_size)
    return patch_width if patch_height == _pair(config.image_size)[0] else 0


def attend_plainly(model: VisionEncoderDecoderModel) -> None:
    """Let the encoder's attention be plain products.

    On a CPU, the backward pass of fused attention takes a third of a step with these short sequences.
    """
    encoder: Any = model.encoder
    for layer in encoder.layers:
        layer.attention.config._attn_implementation = "eager"


def set_dropout(model: VisionEncoderDecoderModel, share: float) -> None:
    """Drop this share of the features while learning, whatever the checkpoint's configuration says, which stays.

    Attention is left alone: drawing chance for each pair of columns takes long on a CPU.
    """
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        elif isinstance(module, TrOCRDecoder | TrOCRDecoderLayer):
            module.dropout = share


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _corrupted(tokens: torch.Tensor, share: float, *, vocabulary: int) -> torch.Tensor:
    """Replace a share of the tokens, never the first of a line."""
    chosen = torch.rand(tokens.shape, device=tokens.device) < share
    chosen[:, 0] = False
    return torch.where(chosen, torch.randint_like(tokens, vocabulary), tokens)


def _log_probs(ctc_head: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """Read the columns of encoder states (B, 1 + T, D): float32 of shape (B, T, V)."""
    log_probs: torch.Tensor = ctc_head(states[:, 1:]).float().log_softmax(-1)
    return log_probs


def _ctc(log_probs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Compute CTC per label; texts longer than the line has columns cost nothing."""
    columns = torch.full_like(batch.lengths, log_probs.shape[1])
    return F.ctc_loss(log_probs.transpose(0, 1), batch.tokens[:, 1:], columns, batch.lengths, zero_infinity=True)


def _guide(attentions: tuple[torch.Tensor, ...], log_probs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Compute how little attention falls on the columns around the next character, in nats.

    Args:
        attentions: Cross-attention of each layer, (B, heads, L, 1 + T).
        log_probs: The CTC head's, (B, T, V), from which the columns are taken.
        batch: The texts.
    """
    columns = torch.from_numpy(
        align_columns(log_probs.cpu().numpy(), batch.tokens[:, 1:-1].cpu().numpy(), batch.lengths.cpu().numpy())
    ).to(log_probs.device)
    known = columns >= 0
    loss = torch.zeros((), device=log_probs.device)
    for attention in attentions:
        guided = attention[:, :_GUIDED_HEADS, : columns.shape[1]]
        near = torch.stack(
            [guided.gather(3, _index(columns + 1 + offset, guided)).squeeze(3).float() for offset in (-1, 0, 1)]
        ).sum(0)
        cost = -(near.clamp(max=1.0) + 1e-4).log().mean(1)
        loss = loss + cost[known].sum() / known.sum().clamp(min=1)
    return loss


def _index(columns: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    inside = columns.clamp(0, attention.shape[3] - 1)
    return inside[:, None, :, None].expand(-1, attention.shape[1], -1, -1)
