"""How the model learns: one step after the other, also after a stop."""

import copy

import torch

from tests.small_reader import small_reader
from training.batches import Batch
from training.optimizer import WeightKeeper


def _batch(width_px: int) -> Batch:
    pixels = torch.zeros(2, 16, width_px, dtype=torch.uint8)
    pixels[:, 4:12, 10:30] = 200
    tokens = torch.tensor([[1, 20, 21, 2], [1, 22, 2, 0]])
    return Batch(pixels=pixels, tokens=tokens, lengths=torch.tensor([2, 1]))


def test_learning_lowers_the_loss() -> None:
    reader = small_reader()
    keeper = WeightKeeper(reader, compute_dtype=torch.float32)
    costs = []
    for step in range(12):
        losses = reader.losses(_batch(48), corruption=0.0)
        losses.total.backward()  # type: ignore[no-untyped-call]
        keeper.step(keeper.flat_gradient(), learning_rate=3e-3, steps_done=step)
        costs.append(losses.total.item())
    assert costs[-1] < 0.8 * costs[0]


def test_a_resumed_keeper_goes_on_as_the_first_would_have() -> None:
    reader, other = small_reader(), small_reader()
    keeper, resumed = (WeightKeeper(part, compute_dtype=torch.float32) for part in (reader, other))
    gradient = torch.ones(sum(weight.numel() for weight in keeper.weights))
    keeper.step(gradient, learning_rate=1e-3, steps_done=0)
    resumed.load_state_dict(copy.deepcopy(keeper.state_dict()))
    for part in (keeper, resumed):
        part.step(gradient, learning_rate=1e-3, steps_done=1)
    assert all(torch.equal(a, b) for a, b in zip(keeper.weights, resumed.weights, strict=True))
