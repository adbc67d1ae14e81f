"""Value on two ranks = value on one rank over all samples, whatever the split."""

import pytest
import torch

from gaze_lightning.losses import SupConLoss, TripletLoss
from gaze_lightning.metrics import (
    NSS,
    AUCJudd,
    ClassificationReport,
    CorrelationCoefficient,
    DefinedMean,
    EmbeddingHealth,
    EmbeddingLoss,
    EnergyInside,
    IoUAtThreshold,
    PointingGameRate,
    SaliencyKL,
    SaliencyReport,
    ShuffledAUC,
    Similarity,
)

N = 33  # odd: the ranks hold different numbers


class SaliencyOfBatch(SaliencyReport):
    """Takes the entries of a batch one by one, as the tests here hand them out."""

    def __init__(self, keys):
        super().__init__()
        self.keys = keys

    def update(self, saliency, *entries):
        super().update(saliency, dict(zip(self.keys, entries, strict=True)))


class Names(list):
    """Keys of samples, cut like a tensor."""

    def split(self, size):
        return [self[i : i + size] for i in range(0, len(self), size)]


def samples():
    g = torch.Generator().manual_seed(0)
    pred, target = torch.rand(N, 6, 7, generator=g), torch.rand(N, 6, 7, generator=g)
    target[3] = 0
    points, mask = torch.rand(N, 9, 2, generator=g) * 7, torch.rand(N, 9, generator=g) < 0.8
    mask[4] = False
    finding = torch.rand(N, 6, 7, generator=g) < 0.1
    finding[5] = False
    probability = torch.rand(N, 3, generator=g).softmax(1)
    label = torch.randint(3, (N,), generator=g)
    known = torch.where(torch.rand(N, 3, generator=g) < 0.2, torch.nan, (label[:, None] > torch.arange(3)).float())
    batch = {
        "image": torch.zeros(N, 1, 6, 7),
        "saliency": target[:, None],
        "fixations": torch.cat([points, points, points], 2)[..., :5],
        "fixation_mask": mask,
        "has_gaze": target.sum((1, 2)) > 0,
    }
    others = points.roll(1, 0), mask.roll(1, 0)
    return {
        "mean": (DefinedMean(), (pred[:, 0, 0],)),
        "cc": (CorrelationCoefficient(), (pred, target)),
        "kl": (SaliencyKL(), (pred, target)),
        "sim": (Similarity(), (pred, target)),
        "nss": (NSS(), (pred, points, mask)),
        "auc_judd": (AUCJudd(), (pred, points, mask)),
        "shuffled_auc": (ShuffledAUC(), (pred, points, mask, *others)),
        "pointing": (PointingGameRate(), (pred, finding, torch.full((N,), 1.5))),
        "energy": (EnergyInside(), (pred, finding)),
        "iou": (IoUAtThreshold(0.7), (pred, finding)),
        "saliency_report": (SaliencyOfBatch(tuple(batch)), (pred[:, None], *batch.values())),
        "report_single": (ClassificationReport(["a", "b", "c"], "single"), (probability, label)),
        "report_multi": (ClassificationReport(["a", "b", "c"], "multi"), (probability, known)),
        "triplet": (EmbeddingLoss(TripletLoss(), "single"), (pred.flatten(1), label)),
        "triplet_per_row": (EmbeddingLoss(TripletLoss(), "multi"), (pred[:, None], known)),
        "triplet_keyed": (
            EmbeddingLoss(TripletLoss(), "single", 16),
            (pred.flatten(1), label, Names(map(str, range(N)))),
        ),
        "embedding_health": (EmbeddingHealth(), (pred.flatten(1),)),
        "embedding_health_keyed": (EmbeddingHealth(16), (pred.flatten(1), Names(map(str, range(N))))),
        "supcon": (EmbeddingLoss(SupConLoss(), "multi"), (pred.flatten(1), known)),
    }


def flat(value):
    return {k: v.item() for k, v in (value if isinstance(value, dict) else {"value": value}).items()}


def compute_on(rank, ranks):
    """``compute`` of one rank, its gather answered with the states that every rank would send."""
    metric = ranks[rank].clone()
    states = [[getattr(other, name) for other in ranks] for name in metric._reductions]
    answers = iter([[torch.cat(s) if isinstance(s, list) else s for s in state] for state in states])
    metric.dist_sync_fn = lambda _, group=None: next(answers)
    metric.distributed_available_fn = lambda: True
    return flat(metric.compute())


@pytest.mark.parametrize("name", samples())
def test_two_ranks_with_interleaved_batches_equal_one(name):
    metric, args = samples()[name]
    ranks = [metric.clone(), metric.clone()]
    for i, batch in enumerate(zip(*(a.split(4) for a in args), strict=True)):
        metric.update(*batch)
        ranks[i % 2].update(*batch)
    expected = flat(metric.compute())
    alone = flat(ranks[0].clone().compute())
    assert alone != pytest.approx(expected, nan_ok=True)
    for rank in (0, 1):
        assert compute_on(rank, ranks) == pytest.approx(expected, nan_ok=True, abs=1e-9)


@pytest.mark.parametrize("name", samples())
def test_merged_states_equal_one_metric(name):
    metric, args = samples()[name]
    first, second = metric.clone(), metric.clone()
    metric.update(*args)
    first.update(*(a[:10] for a in args))
    second.update(*(a[10:] for a in args))
    first.merge_state(second)
    assert flat(first.compute()) == pytest.approx(flat(metric.compute()), nan_ok=True, abs=1e-9)
