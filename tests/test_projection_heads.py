import pytest
import torch
from torch import nn

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models import Backbone, Embedder, MomentumCopy, ProjectionHead

HEADS = {
    "moco_v2": ((16, [16], 8, False, "none"), lambda: [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 8)]),
    "simclr": ((16, [16], 4, False, "none"), lambda: [nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4)]),
    "byol": (
        (16, [32], 8, True, "none"),
        lambda: [nn.Linear(16, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 8)],
    ),
    "simsiam": (
        (16, [16, 12], 12, True, "plain"),
        lambda: [
            nn.Linear(16, 16, bias=False),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 12, bias=False),
            nn.BatchNorm1d(12),
            nn.ReLU(),
            nn.Linear(12, 12, bias=False),
            nn.BatchNorm1d(12, affine=False),
        ],
    ),
    "simsiam_prediction": (
        (12, [4], 12, True, "none"),
        lambda: [nn.Linear(12, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 12)],
    ),
    "normed": (
        (6, [], 5, False, "affine"),
        lambda: [nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)],
    ),
    "linear": ((6, (), 5, True, "none"), lambda: [nn.Linear(6, 5)]),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_the_published_ones(name):
    arguments, layers = HEADS[name]
    torch.manual_seed(0)
    head, expected = ProjectionHead(*arguments), nn.Sequential(*layers())
    expected.load_state_dict(head.layers.state_dict())  # strict: the same layers, with and without biases
    features = torch.randn(7, arguments[0])
    for training in (True, False):
        head.train(training), expected.train(training)
        assert torch.equal(head(features), expected(features))
    torch.testing.assert_close(dict(head.layers.named_buffers()), dict(expected.named_buffers()))


def test_the_last_norm_of_simsiam_is_plain():
    head = ProjectionHead(4, [4], 4, hidden_norm=True, out_norm="plain")
    projection = head(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(projection.mean(dim=0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(projection.var(dim=0, correction=0), torch.ones(4), atol=1e-2, rtol=0)
    assert sum(p.numel() for p in head.parameters()) == 4 * 4 + 2 * 4 + 4 * 4


def test_batch_norm_of_a_single_sample_is_torch_s_error():
    head = ProjectionHead(4, [4], 2, hidden_norm=True, out_norm="none")
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        head(torch.zeros(1, 4))
    assert head.eval()(torch.zeros(1, 4)).shape == (1, 2)
    assert ProjectionHead(4, [4], 2, hidden_norm=False, out_norm="none")(torch.zeros(1, 4)).shape == (1, 2)


def test_impossible_heads_are_refused():
    for arguments in ((0, [4], 2), (4, [0], 2), (4, [4], -1)):
        with pytest.raises(ConfigurationError, match="at least 1"):
            ProjectionHead(*arguments, hidden_norm=False, out_norm="none")
    with pytest.raises(ConfigurationError, match="out_norm is 'batch'"):
        ProjectionHead(4, [4], 2, hidden_norm=False, out_norm="batch")


def test_the_embedder_pools_the_whole_film_in_float32():
    torch.manual_seed(0)
    backbone = Backbone("resnet18")
    embedder = Embedder(backbone, ProjectionHead(512, [16], 8, hidden_norm=False, out_norm="none")).eval()
    image = torch.rand(2, 1, 64, 96)
    embedded = embedder(image)
    expected = backbone(image).flatten(2).mean(dim=2)
    torch.testing.assert_close(embedded.features, expected)
    torch.testing.assert_close(embedded.projection, embedder.projector(expected))
    assert embedded.projection.shape == (2, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = embedder(image)
        assert backbone(image).dtype == torch.bfloat16
    assert lower.features.dtype == torch.float32
    assert {name.split(".")[0] for name in embedder.state_dict()} == {"backbone", "projector"}


def small():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_momentum_copy_follows_the_source_slowly():
    source = small()
    copy = MomentumCopy(source)
    assert not any(p.requires_grad for p in copy.parameters())
    assert all(p.requires_grad for p in source.parameters())
    expected = [p.detach().clone() for p in source.parameters()]
    for step, momentum in enumerate((0.999, 0.5, 0.0, 1.0)):
        with torch.no_grad():
            for p in source.parameters():
                p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(step)))
        copy.update(source, momentum)
        theirs = [p.detach() for p in source.parameters()]
        expected = [momentum * e + (1 - momentum) * p for e, p in zip(expected, theirs, strict=True)]
        torch.testing.assert_close(list(copy.parameters()), expected)
        if momentum == 0:
            assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), theirs, strict=True))
            kept = [p.clone() for p in copy.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), kept, strict=True))  # momentum 1
    assert not any(p.requires_grad for p in copy.parameters())


def test_buffers_of_a_momentum_copy_keep_their_own_course():
    source = small()
    copy = MomentumCopy(source)
    source(torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) + 4)
    shifted = source[1].running_mean.clone()
    copy.update(source, 0.0)
    assert not copy.module[1].running_mean.any()
    copy(torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    assert copy.module[1].running_mean.any()
    assert torch.equal(source[1].running_mean, shifted)


def test_what_a_momentum_copy_returns_has_no_gradient():
    source = small()
    copy = MomentumCopy(source)
    x = torch.randn(5, 3)
    assert torch.equal(copy(x), source(x))
    assert not copy(x).requires_grad


def test_impossible_updates_are_refused():
    copy = MomentumCopy(small())
    for momentum in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigurationError, match="between 0 and 1"):
            copy.update(small(), momentum)
    with pytest.raises(ValueError, match="shorter"):
        copy.update(nn.Linear(3, 4), 0.5)
