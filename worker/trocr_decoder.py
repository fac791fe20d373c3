"""TrOCR's decoder, one step at a time for rows at different positions.

transformers' own decoder keeps one length for a whole batch, so that a line could join only at the start. Here each row
has its own length, its own slots for keys and values, and leaves by itself. The weights are those of the loaded
transformers modules, layer by layer, and the arithmetic is theirs (`transformers.models.trocr.modeling_trocr`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers.models.trocr.modeling_trocr import (
    TrOCRAttention,
    TrOCRDecoder,
    TrOCRDecoderLayer,
    TrOCRForCausalLM,
    TrOCRSinusoidalPositionalEmbedding,
)


class DecoderRows:
    """The rows in use are always the first ones, so that a step computes them and no others, without copying.

    To be called in `torch.inference_mode`.

    Args:
        model: In evaluation mode, on the device and in the dtype in which it shall run.
        rows: The most rows.
        positions: The most tokens that a row feeds.
        source_length: Vectors that the encoder gives for each line.
        start_token: What each row feeds first.
    """

    def __init__(
        self, model: TrOCRForCausalLM, *, rows: int, positions: int, source_length: int, start_token: int
    ) -> None:
        self._decoder = model.model.decoder
        self._head = model.output_projection
        self._start_token = start_token
        config = self._decoder.config
        heads = config.decoder_attention_heads
        head_dim = config.hidden_size // heads
        weight = self._head.weight
        #: Keys and values of what each row has fed (layers, 2, rows, heads, positions, head_dim). Zeroed, because a
        #: slot that is masked out is still multiplied, by zero, and must not hold a NaN.
        self._own = weight.new_zeros((len(self._decoder.layers), 2, rows, heads, positions, head_dim))
        #: Keys and values of what each row's line looks like (layers, 2, rows, heads, source_length, head_dim).
        self._seen = weight.new_zeros((len(self._decoder.layers), 2, rows, heads, source_length, head_dim))
        #: The token that each row feeds next (rows,), and how many it has fed (rows,).
        self._tokens = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self._lengths = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self._order = torch.arange(max(rows, positions), device=weight.device)
        self._positions, self._unplaced_token = _positions(self._decoder, positions)
        self._embed_scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        self._count = 0
        #: The longest row's length, kept here because reading it from the device would wait for the device.
        self._host_lengths: list[int] = []

    def join(self, encoded: Tensor) -> None:
        """Take the rows that follow those in use for new lines.

        Args:
            encoded: The encoder's output for each line, (lines, source_length, width).
        """
        first, last = self._count, self._count + encoded.shape[0]
        for index, layer in enumerate(self._decoder.layers):
            attention = layer.encoder_attn
            for kind, projection in enumerate((attention.k_proj, attention.v_proj)):
                self._seen[index, kind, first:last] = _by_head(projection(encoded), attention)
        self._tokens[first:last] = self._start_token
        self._lengths[first:last] = 0
        self._host_lengths += [0] * encoded.shape[0]
        self._count = last

    def leave(self, row: int) -> None:
        """Free a row; the last row in use takes its place, and its number."""
        last = self._count - 1
        if row != last:
            fed = self._host_lengths[last]
            self._own[:, :, row, :, :fed] = self._own[:, :, last, :, :fed]
            self._seen[:, :, row] = self._seen[:, :, last]
            self._tokens[row] = self._tokens[last]
            self._lengths[row] = self._lengths[last]
            self._host_lengths[row] = self._host_lengths[last]
        self._host_lengths.pop()
        self._count = last

    def clear(self) -> None:
        """Free all rows."""
        self._host_lengths.clear()
        self._count = 0

    def scores(self) -> Tensor:
        """Feed each row its token; the scores of what follows it, (rows in use, vocabulary) float32."""
        count, longest = self._count, max(self._host_lengths) + 1
        lengths = self._lengths[:count]
        hidden = self._embedded(self._tokens[:count], lengths)
        unseen = (self._order[:longest] > lengths[:, None])[:, None, None]
        for index, layer in enumerate(self._decoder.layers):
            hidden = self._through_layer(index, layer, hidden, unseen)
        scores: Tensor = self._head(hidden).float()
        return scores

    def feed(self, tokens: Tensor) -> None:
        """Choose what each row in use feeds at the next step, (rows in use,)."""
        self._tokens[: self._count] = tokens
        self._lengths[: self._count] += 1
        self._host_lengths = [length + 1 for length in self._host_lengths]

    def _embedded(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        embedding = torch.nn.functional.embedding(tokens, self._decoder.embed_tokens.weight)
        positions = self._positions[lengths]
        if self._unplaced_token is not None:
            positions = positions.masked_fill((tokens == self._unplaced_token)[:, None], 0)
        hidden = embedding * self._embed_scale + positions
        normalise = self._decoder.layernorm_embedding
        return hidden if normalise is None else normalise(hidden)

    def _through_layer(self, index: int, layer: TrOCRDecoderLayer, hidden: Tensor, unseen: Tensor) -> Tensor:
        count, longest = hidden.shape[0], unseen.shape[-1]
        attention, lengths = layer.self_attn, self._lengths[:count]
        for kind, projection in enumerate((attention.k_proj, attention.v_proj)):
            fed = projection(hidden).view(count, attention.num_heads, attention.head_dim)
            self._own[index, kind, self._order[:count], :, lengths] = fed
        own = self._own[index, :, :count, :, :longest]
        hidden = layer.self_attn_layer_norm(hidden + _attend(attention, hidden, own, unseen))
        seen = self._seen[index, :, :count]
        hidden = layer.encoder_attn_layer_norm(hidden + _attend(layer.encoder_attn, hidden, seen))
        changed = layer.fc2(layer.activation_fn(layer.fc1(hidden)))
        normalised: Tensor = layer.final_layer_norm(hidden + changed)
        return normalised


def _attend(attention: TrOCRAttention, hidden: Tensor, keys_values: Tensor, unseen: Tensor | None = None) -> Tensor:
    """What each row gathers, (count, width).

    Args:
        attention: Whose weights to use.
        hidden: (count, width).
        keys_values: (2, count, heads, length, head_dim).
        unseen: Which keys a row must not see, (count, 1, 1, length).
    """
    keys, values = keys_values
    queries = _by_head((attention.q_proj(hidden) * attention.scaling)[:, None], attention)
    weights = queries @ keys.transpose(-1, -2)
    if unseen is not None:
        weights = weights.masked_fill(unseen, -math.inf)
    gathered: Tensor = attention.out_proj((weights.softmax(dim=-1) @ values).reshape(hidden.shape))
    return gathered


def _by_head(vectors: Tensor, attention: TrOCRAttention) -> Tensor:
    """(lines, length, width) as (lines, heads, length, head_dim)."""
    lines, length, _ = vectors.shape
    return vectors.view(lines, length, attention.num_heads, attention.head_dim).transpose(1, 2)


def _positions(decoder: TrOCRDecoder, count: int) -> tuple[Tensor, int | None]:
    """The vectors of the first positions (count, width), and the token that has no position, if there is one."""
    weight = decoder.embed_tokens.weight
    embedding = decoder.embed_positions
    if not isinstance(embedding, TrOCRSinusoidalPositionalEmbedding):
        return embedding.weight[embedding.offset : embedding.offset + count], None
    # Computed anew: the module's own table is no buffer, so that it neither moves to the device nor is loaded.
    unplaced = decoder.padding_idx
    assert unplaced is not None  # the module was made with it
    table = embedding.get_embedding(unplaced + 1 + count, embedding.embedding_dim, unplaced)
    return table[unplaced + 1 :].to(weight), unplaced
