"""The model in training: what it computes."""

from typing import Any

import torch
from transformers import TrOCRConfig, TrOCRForCausalLM, VisionEncoderDecoderModel, ViTConfig, ViTModel

from tests.small_reader import small_reader
from training.batches import Batch
from training.hybrid_reader import attend_plainly, set_dropout
from training.optimizer import _orthogonal


def test_a_narrow_line_is_embedded_as_the_middle_of_a_padded_one() -> None:
    reader = small_reader()
    values = torch.randn(1, 16, 40)
    padded = torch.nn.functional.pad(values, (28, 28))
    encoder: Any = reader.model.encoder
    whole = encoder.embeddings(padded[:, None].expand(-1, 3, -1, -1))
    narrow = reader._embed_columns(values)
    assert torch.allclose(narrow[:, 1:], whole[:, 1 + 7 : 1 + 17], atol=1e-5)


def test_directions_are_made_nearly_orthogonal() -> None:
    matrices = torch.randn(2, 24, 8, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(_orthogonal(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.4


def test_columns_start_out_looking_at_their_neighbours() -> None:
    reader = small_reader()
    attend_plainly(reader.model)
    encoder: Any = reader.model.encoder
    pixels = torch.zeros(1, 3, 16, 96)
    attention = encoder(pixel_values=pixels, output_attentions=True).attentions[0][0, :, 1:, 1:]
    nearest = attention[:, 4:20].argmax(-1) - torch.arange(4, 20)
    assert nearest[0].eq(-2).float().mean() > 0.9
    assert nearest[1].eq(-1).float().mean() > 0.9


def test_dropout_is_learnt_with_and_leaves_the_configuration_and_the_reading_alone() -> None:
    reader = small_reader()
    configured = reader.model.config.to_dict()
    pixels = torch.zeros(1, 16, 48, dtype=torch.uint8)
    pixels[:, 4:12, 10:30] = 200
    batch = Batch(pixels=pixels, tokens=torch.tensor([[1, 20, 21, 2]]), lengths=torch.tensor([2]))

    def total() -> float:
        return reader.losses(batch, corruption=0.0).total.item()

    reader.train()
    without = total()
    set_dropout(reader.model, 0.5)
    assert total() != without
    assert total() != total()
    reader.eval()
    assert total() == without
    assert reader.model.config.to_dict() == configured


def test_a_configured_dropout_can_be_taken_away() -> None:
    decoder = TrOCRForCausalLM(TrOCRConfig(vocab_size=20, d_model=32, decoder_layers=1, dropout=0.1))
    encoder = ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, hidden_dropout_prob=0.1))
    model = VisionEncoderDecoderModel(encoder=encoder, decoder=decoder)
    set_dropout(model, 0.0)
    shares = {getattr(module, name, 0.0) for module in model.modules() for name in ("p", "dropout")}
    assert {share for share in shares if isinstance(share, float)} == {0.0}
