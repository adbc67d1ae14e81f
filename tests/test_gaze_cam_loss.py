import math

import pytest
import torch

from gaze_lightning.losses import ClassificationLoss, GazeCAMLoss

G = torch.Generator().manual_seed(0)
MAPS = torch.randn(3, 4, 2, 3, generator=G)
TARGET = torch.rand(3, 1, 2, 3, generator=G)
TARGET /= TARGET.amax(dim=(1, 2, 3), keepdim=True)
LABEL = torch.tensor([2, 0, 3])
EVERY = torch.tensor([True, True, True])


def literal(kind, maps, label, target, has_gaze, kappa, beta):
    """The spec's formula for single-label data, one number at a time."""
    losses = []
    for n in range(len(maps)):
        if not has_gaze[n]:
            continue
        m = maps[n, 0 if kind == "released" else int(label[n])]
        cells = []
        for u in range(m.shape[0]):
            for v in range(m.shape[1]):
                a = float(m[u, v])
                if kind == "intended":
                    a = 1 / (1 + math.exp(-(math.exp(kappa) * a + beta)))
                cells.append((a - float(target[n, 0, u, v])) ** 2)
        losses.append(sum(cells) / len(cells))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("kind", ["intended", "released", "raw_true"])
@pytest.mark.parametrize("has_gaze", [EVERY, torch.tensor([True, False, True])])
def test_loss_is_that_of_the_formula(kind, has_gaze):
    loss = GazeCAMLoss(kind, train_beta=kind == "intended")
    loss.kappa.data.fill_(0.3)
    if loss.beta is not None:
        loss.beta.data.fill_(-0.7)
    value, n = loss(MAPS, LABEL, TARGET, has_gaze)
    assert value.item() == pytest.approx(literal(kind, MAPS, LABEL, TARGET, has_gaze, 0.3, -0.7), rel=1e-6)
    assert n.item() == has_gaze.sum()


@pytest.mark.parametrize(
    ("kind", "channels"), [("intended", [2, 0, 3]), ("raw_true", [2, 0, 3]), ("released", [0, 0, 0])]
)
def test_gaze_of_an_image_moves_only_its_guided_channel(kind, channels):
    loss = GazeCAMLoss(kind)
    maps = MAPS.clone().requires_grad_()
    loss(maps, LABEL, TARGET, EVERY).loss.backward()
    touched = maps.grad.abs().sum(dim=(2, 3)) > 0
    assert torch.equal(touched, torch.nn.functional.one_hot(torch.tensor(channels), 4).bool())
    if kind == "intended":
        assert loss.kappa.grad.abs() > 0
    else:
        assert loss.kappa.grad is None


def test_released_channel_can_be_another_class():
    maps = MAPS.clone().requires_grad_()
    GazeCAMLoss("released", released_channel=1)(maps, LABEL, TARGET, EVERY).loss.backward()
    assert torch.equal(maps.grad.abs().sum(dim=(0, 2, 3)) > 0, torch.tensor([False, True, False, False]))


@pytest.mark.parametrize(
    ("kind", "beta", "total", "trainable"),
    [("intended", False, 1, 1), ("intended", True, 2, 2), ("released", False, 1, 0), ("raw_true", False, 1, 0)],
)
def test_number_of_parameters(kind, beta, total, trainable):
    parameters = list(GazeCAMLoss(kind, train_beta=beta).parameters())
    assert len(parameters) == total
    assert sum(p.requires_grad for p in parameters) == trainable


@pytest.mark.parametrize("kind", ["intended", "released", "raw_true"])
def test_a_batch_without_gaze_costs_exactly_nothing_and_keeps_the_graph(kind):
    loss = GazeCAMLoss(kind)
    maps = MAPS.clone().requires_grad_()
    value, n = loss(maps, LABEL, torch.zeros_like(TARGET), ~EVERY)
    value.backward()
    assert value.item() == n.item() == 0
    assert torch.equal(maps.grad, torch.zeros_like(maps))
    if kind == "intended":
        assert loss.kappa.grad.item() == 0


def test_an_empty_map_counts_as_no_gaze_even_if_gaze_was_announced():
    target = TARGET.clone()
    target[1] = 0
    announced = GazeCAMLoss()(MAPS, LABEL, target, EVERY)
    masked = GazeCAMLoss()(MAPS, LABEL, target, torch.tensor([True, False, True]))
    assert announced.loss.item() == masked.loss.item()
    assert announced.n.item() == 2


def test_multi_label_averages_over_positive_classes_and_leaves_out_samples_without_one():
    label = torch.tensor([[1, 0, 1, math.nan], [0, 0, 0, math.nan], [0, 1, 0, 0]])
    value, n = GazeCAMLoss("raw_true")(MAPS, label, TARGET, EVERY)
    mse = lambda n, k: float(((MAPS[n, k] - TARGET[n, 0]) ** 2).mean())  # noqa: E731
    assert value.item() == pytest.approx(((mse(0, 0) + mse(0, 2)) / 2 + mse(2, 1)) / 2, rel=1e-6)
    assert n.item() == 2


def test_released_guides_all_images_of_multi_label_data():
    label = torch.zeros(3, 4)
    value, n = GazeCAMLoss("released")(MAPS, label, TARGET, EVERY)
    assert value.item() == pytest.approx(float(((MAPS[:, 0] - TARGET[:, 0]) ** 2).mean()), rel=1e-6)
    assert n.item() == 3


def test_loss_is_float32_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = GazeCAMLoss()(MAPS, LABEL, TARGET, EVERY).loss
    assert value.dtype == torch.float32
    assert value.item() == GazeCAMLoss()(MAPS, LABEL, TARGET, EVERY).loss.item()


def test_grids_that_differ_are_an_error():
    with pytest.raises(ValueError, match="grid"):
        GazeCAMLoss()(MAPS, LABEL, TARGET[..., :2], EVERY)


def test_a_beta_without_sigmoid_is_refused():
    with pytest.raises(ValueError, match="train_beta"):
        GazeCAMLoss("released", train_beta=True)


def test_classification_loss_of_exclusive_classes_is_plain_cross_entropy():
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    literal_value = -(math.log(math.exp(2) / (math.e + math.exp(2))) + math.log(1 / (1 + math.exp(-1.5)))) / 2
    value = ClassificationLoss("single")(logits, torch.tensor([1, 0]))
    assert value.item() == pytest.approx(literal_value, rel=1e-6)


def test_unknown_labels_are_left_out_of_the_mean():
    logits = torch.tensor([[1.0, 2.0], [0.5, -1.0]], requires_grad=True)
    value = ClassificationLoss("multi")(logits, torch.tensor([[1.0, math.nan], [math.nan, 0.0]]))
    assert value.item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-1))) / 2, rel=1e-6)
    value.backward()
    assert torch.equal(logits.grad != 0, torch.tensor([[True, False], [False, True]]))


def test_without_any_known_label_the_loss_is_zero_with_a_graph():
    logits = torch.randn(2, 2, requires_grad=True)
    value = ClassificationLoss("multi")(logits, torch.full((2, 2), math.nan))
    value.backward()
    assert value.item() == 0
    assert torch.equal(logits.grad, torch.zeros(2, 2))
