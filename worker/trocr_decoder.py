"""TrOCR's decoder, one step at a time for rows at different positions.

transformers' own decoder keeps one length for a whole batch, so that a line could join only at the start. Here each row
has its own length, its own slots for keys and values, and leaves by itself. The weights are those of the loaded
transformers modules, layer by layer, and the arithmetic is theirs (`transformers.models.trocr.modeling_trocr`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, scaled_dot_product_attention
from transformers.models.trocr.modeling_trocr import (
    TrOCRAttention,
    TrOCRDecoder,
    TrOCRDecoderLayer,
    TrOCRForCausalLM,
    TrOCRSinusoidalPositionalEmbedding,
)

from worker.trocr_device import computing_with
from worker.trocr_graphs import FixedShapes, powers_of_two
from worker.trocr_openvino import ConvertedModule
from worker.trocr_vit import joined_projections

#: Shorter texts take no less time where shapes are fixed.
_SHORTEST = 16
#: Weights below which the layers, or the head, are computed on one core of a CPU, since many products so small end
#: before other threads have woken up. On two Zen 4 cores a step of 16 rows of the bundled model (1.2 million in layers)
#: takes 1.9 ms on one and 3.2 to 4.5 on both. One of the trocr-small shape takes 24 on both with 16 rows and 15 with 4;
#: with the layers (6.7 million) on one and the head (16 million) on both 23 and 12.
_FEWEST_WEIGHTS_FOR_THREADS = 10_000_000


@dataclass(frozen=True, kw_only=True)
class Step:
    """What the rows in use may read next, on the device; valid until the next step."""

    #: The likeliest token of each row (rows,), and its natural-log probability.
    tokens: Tensor
    logprobs: Tensor
    #: All of them, (rows, vocabulary) float32, not normalised.
    scores: Tensor


class DecoderRows:
    """The rows in use are always the first ones, so that a step computes them and hardly any others, without copying.

    To be called in `torch.inference_mode`.

    Args:
        model: In evaluation mode, on the device and in the dtype in which it shall run.
        rows: The most rows.
        positions: The most tokens that a row feeds.
        source_length: Vectors that the encoder gives for each line.
        start_token: What each row feeds first.
        openvino: Whether OpenVINO computes the large products, in bfloat16 what comes before the first step.
    """

    def __init__(
        self,
        model: TrOCRForCausalLM,
        *,
        rows: int,
        positions: int,
        source_length: int,
        start_token: int,
        openvino: bool,
    ) -> None:
        self._decoder = model.model.decoder
        self._head = model.output_projection
        self._start_token = start_token
        config = self._decoder.config
        heads = config.decoder_attention_heads
        head_dim = config.hidden_size // heads
        weight = self._head.weight
        #: Of each layer's own attention: weights and biases of queries, keys and values, to be multiplied at once.
        self._projections = [joined_projections(layer.self_attn) for layer in self._decoder.layers]
        keys_values = _KeysValues(self._decoder)
        self._keys_values: Callable[[Tensor], Sequence[Tensor]] = keys_values
        self._compiled_head = None
        #: How many threads of a CPU compute, and how many of them the layers and the head.
        self._cores = cores = torch.get_num_threads()
        self._layers_cores, self._head_cores = (_cores_for(part, cores) for part in (self._decoder.layers, self._head))
        if openvino:
            states = (-1, source_length, keys_values.in_features)
            self._keys_values = ConvertedModule(keys_values, states).compiled(cores=cores)
            if not _is_small(self._head):
                hidden = (-1, self._head.in_features)
                self._compiled_head = ConvertedModule(self._head, hidden).compiled(cores=cores, number_format="f32")
        #: Keys and values of what each row has fed (layers, 2, rows, heads, positions, head_dim). Zeroed, here and for
        #: each new line, because a slot that is masked out is still multiplied, by zero, and must not hold a NaN.
        self._own = weight.new_zeros((len(self._decoder.layers), 2, rows, heads, positions, head_dim))
        #: Keys and values of what each row's line looks like (layers, 2, rows, heads, source_length, head_dim).
        self._seen = weight.new_zeros((len(self._decoder.layers), 2, rows, heads, source_length, head_dim))
        #: The token that each row feeds next (rows,), and how many it has fed (rows,).
        self._tokens = torch.full((rows,), start_token, device=weight.device)
        self._lengths = torch.zeros(rows, dtype=torch.long, device=weight.device)
        self._order = torch.arange(max(rows, positions), device=weight.device)
        self._positions, self._unplaced_token = _positions(self._decoder, positions)
        self._embed_scale = math.sqrt(config.hidden_size) if config.scale_embedding else 1.0
        self._count = 0
        #: What `_lengths` holds, kept here because reading it from the device would wait for the device.
        self._host_lengths: list[int] = []
        self._steps = FixedShapes(
            self._computed,
            sizes=(powers_of_two(1, rows), powers_of_two(_SHORTEST, positions)),
            device=weight.device,
        )

    def join(self, encoded: Tensor, rows_each: Sequence[int]) -> None:
        """Take the rows that follow those in use for new lines.

        Args:
            encoded: The encoder's output for each line, (lines, source_length, width).
            rows_each: How many rows each line takes, next to each other.
        """
        first, last = self._count, self._count + sum(rows_each)
        # Only where there are beams: to copy it a GPU's host waits for the encoder.
        repeats = torch.tensor(rows_each, device=encoded.device) if last - first > len(rows_each) else None
        places = product(range(len(self._decoder.layers)), (0, 1))
        for (index, kind), vectors in zip(places, self._keys_values(encoded), strict=True):
            seen = _by_head(vectors, self._decoder.layers[index].encoder_attn)
            if repeats is not None:
                seen = seen.repeat_interleave(repeats, dim=0)
            self._seen[index, kind, first:last] = seen
        self._own[:, :, first:last] = 0
        self._tokens[first:last] = self._start_token
        self._lengths[first:last] = 0
        self._host_lengths += [0] * (last - first)
        self._count = last

    def leave(self, row: int) -> None:
        """Free a row; the last row in use takes its place, and its number."""
        last = self._count - 1
        if row != last:
            self._own[:, :, row] = self._own[:, :, last]
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

    def step(self) -> Step:
        """Feed each row its token; the likeliest one that follows is what it feeds next."""
        longest = max(self._host_lengths) + 1
        with computing_with(self._layers_cores, else_with=self._cores):
            computed = self._steps(self._count, longest)
        self._host_lengths = [min(length + 1, len(self._positions) - 1) for length in self._host_lengths]
        return Step(
            tokens=computed.tokens[: self._count],
            logprobs=computed.logprobs[: self._count],
            scores=computed.scores[: self._count],
        )

    def choose(self, rows: Sequence[int], tokens: Sequence[int], parents: Sequence[int]) -> None:
        """Choose what the rows of a line feed next, instead of the likeliest token of each.

        Args:
            rows: The numbers of the line's rows.
            tokens: What each of them feeds.
            parents: The numbers of the rows whose texts these continue.
        """
        device = self._tokens.device
        chosen = torch.tensor(rows, device=device)
        self._tokens[chosen] = torch.tensor(tokens, device=device)
        if list(parents) != list(rows):
            fed = self._host_lengths[rows[0]]
            self._own[:, :, chosen, :, :fed] = self._own[:, :, torch.tensor(parents, device=device), :, :fed]

    def _computed(self, count: int, longest: int) -> Step:
        """Advance the first `count` rows, of which none has fed `longest` tokens; changes only what the rows hold."""
        lengths = self._lengths[:count]
        hidden = self._embedded(self._tokens[:count], lengths)
        visible = (self._order[:longest] <= lengths[:, None])[:, None, None]
        for index, layer in enumerate(self._decoder.layers):
            hidden = self._through_layer(index, layer, hidden, visible)
        with computing_with(self._head_cores, else_with=self._layers_cores):
            scores = self._scores(hidden)
            tokens = scores.argmax(dim=-1)
            logprobs = scores.log_softmax(dim=-1).gather(1, tokens[:, None])[:, 0]
        self._tokens[:count] = tokens
        # Rows beyond those in use are computed as well where shapes are fixed, and must not run off the end.
        self._lengths[:count] = (lengths + 1).clamp(max=len(self._positions) - 1)
        return Step(tokens=tokens, logprobs=logprobs, scores=scores)

    def _scores(self, hidden: Tensor) -> Tensor:
        if self._compiled_head is not None:
            return self._compiled_head(hidden)[0]
        weight = self._head.weight
        if weight.device.type == "cpu" and len(hidden) > 1:
            # The vocabulary is far longer than the rows are many. With it in front, the product takes half to two
            # thirds of the time (MKL on two AVX2 cores: 10 instead of 24 ms for 16 rows and 64,044 tokens).
            return torch.mm(weight, hidden.t()).t().contiguous().float()
        scores: Tensor = self._head(hidden).float()
        return scores

    def _embedded(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        positions = self._positions[lengths]
        if self._unplaced_token is not None:
            positions = positions.masked_fill((tokens == self._unplaced_token)[:, None], 0)
        hidden = embedding(tokens, self._decoder.embed_tokens.weight) * self._embed_scale + positions
        normalise = self._decoder.layernorm_embedding
        return hidden if normalise is None else normalise(hidden)

    def _through_layer(self, index: int, layer: TrOCRDecoderLayer, hidden: Tensor, visible: Tensor) -> Tensor:
        count, longest = hidden.shape[0], visible.shape[-1]
        attention, lengths = layer.self_attn, self._lengths[:count]
        queries, keys, values = linear(hidden, *self._projections[index]).chunk(3, dim=1)
        for kind, fed in enumerate((keys, values)):
            by_head = fed.view(count, attention.num_heads, attention.head_dim)
            self._own[index, kind, self._order[:count], :, lengths] = by_head
        own = self._own[index, :, :count, :, :longest]
        hidden = layer.self_attn_layer_norm(hidden + _attend(attention, queries, own, visible))
        seen, attention = self._seen[index, :, :count], layer.encoder_attn
        hidden = layer.encoder_attn_layer_norm(hidden + _attend(attention, attention.q_proj(hidden), seen))
        changed = layer.fc2(layer.activation_fn(layer.fc1(hidden)))
        normalised: Tensor = layer.final_layer_norm(hidden + changed)
        return normalised


def _cores_for(module: nn.Module, cores: int) -> int:
    on_cpu = next(module.parameters()).device.type == "cpu"
    return 1 if on_cpu and _is_small(module) else cores


def _is_small(module: nn.Module) -> bool:
    return sum(weights.numel() for weights in module.parameters()) < _FEWEST_WEIGHTS_FOR_THREADS


class _KeysValues(nn.Module):
    """Keys, then values, of what the encoder gives, layer after layer: each (lines, source_length, width)."""

    def __init__(self, decoder: TrOCRDecoder) -> None:
        super().__init__()
        attentions: list[Any] = [layer.encoder_attn for layer in decoder.layers]
        #: The width of what the encoder gives.
        self.in_features: int = attentions[0].k_proj.in_features
        self._projections = nn.ModuleList(
            projection for attention in attentions for projection in (attention.k_proj, attention.v_proj)
        )

    def forward(self, encoded: Tensor) -> tuple[Tensor, ...]:
        return tuple(projection(encoded) for projection in self._projections)


def _attend(attention: TrOCRAttention, queries: Tensor, keys_values: Tensor, visible: Tensor | None = None) -> Tensor:
    """What each row gathers, (count, width).

    Args:
        attention: Whose weights to use.
        queries: (count, width).
        keys_values: (2, count, heads, length, head_dim).
        visible: Which keys a row sees, (count, 1, 1, length); None is all.
    """
    keys, values = keys_values
    by_head = _by_head(queries[:, None], attention)
    if visible is None and queries.device.type == "cpu":
        # PyTorch's own way is made for many queries. For one, two products take half the time, where they are large:
        # 0.6 instead of 1.1 ms of a Zen 4 core for 16 rows that look at 578 vectors in 8 heads, 0.12 and 0.13 for the
        # bundled model's 162 in 4.
        weights = torch.matmul(by_head * attention.scaling, keys.transpose(-1, -2)).softmax(-1)
        gathered = torch.matmul(weights, values)
    else:
        gathered = scaled_dot_product_attention(by_head, keys, values, attn_mask=visible, scale=attention.scaling)
    projected: Tensor = attention.out_proj(gathered.reshape(queries.shape))
    return projected


def _by_head(vectors: Tensor, attention: TrOCRAttention) -> Tensor:
    """(lines, length, width) as (lines, heads, length, head_dim)."""
    lines, length, _ = vectors.shape
    return vectors.view(lines, length, attention.num_heads, attention.head_dim).transpose(1, 2)


def _positions(decoder: TrOCRDecoder, count: int) -> tuple[Tensor, int | None]:
    """The vectors of the first positions (count, width), and the token that has no position, if there is one."""
    weight = decoder.embed_tokens.weight
    embed = decoder.embed_positions
    if not isinstance(embed, TrOCRSinusoidalPositionalEmbedding):
        return embed.weight[embed.offset : embed.offset + count], None
    # Computed anew: the module's own table is no buffer, so that it neither moves to the device nor is loaded.
    unplaced = decoder.padding_idx
    assert unplaced is not None  # the module was made with it
    table = embed.get_embedding(unplaced + 1 + count, embed.embedding_dim, unplaced)
    return table[unplaced + 1 :].to(weight), unplaced
