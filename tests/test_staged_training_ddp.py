"""Two real processes: whatever stages do, both must end with the same weights and buffers."""

import pytest
import torch
from pytorch_lightning.strategies import DDPStrategy

from callbacks import Stage
from callbacks.stage_checks import check_strategy
from tests.small_ranks import small_ranks


@pytest.fixture
def folder(tmp_path_factory):
    return small_ranks(tmp_path_factory)


def ranks(folder, name):
    return [torch.load(folder / f"{name}-{rank}.pt", weights_only=True) for rank in range(2)]


def differences(a, b):
    assert a.keys() == b.keys()
    return {name for name in a if not torch.equal(a[name], b[name])}


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["freeze", "terms"])
def test_ranks_stay_bit_identical_through_stages(folder, kind):
    for epoch in range(3):
        first, second = ranks(folder / f"staged {kind}", epoch)
        differing = differences(first["end"], second["end"])
        if epoch in (0, 2):  # the ends of the stages
            assert not differing
        assert all("running" in name for name in differing)  # within a stage statistics are each rank's own
        moved = {name for name, value in first["end"].items() if not torch.equal(value, first["start"][name])}
        backbone = {name for name in moved if name.startswith("model.backbone")}
        if kind == "freeze":
            assert bool(backbone) == (epoch > 0)  # frozen: neither weights nor statistics move
        else:
            assert backbone
            assert ("weighting.log_sigma_gaze" in moved) == (epoch > 0)


@pytest.mark.ddp
@pytest.mark.slow
def test_ranks_stay_bit_identical_through_train_patterns_init_from_and_parts_that_one_rank_does_not_use(folder):
    trained_in = folder / "staged init"
    ends = {2: {"head"}, 5: {"backbone", "sometimes"}, 7: {"backbone", "head", "sometimes"}}  # patience ends the second
    before = ranks(trained_in, 0)[0]["start"]
    for epoch, trained in ends.items():
        first, second = ranks(trained_in, epoch)
        assert not differences(first["end"], second["end"]), epoch
        moved = {name.split(".")[0] for name in differences(before, first["end"])}
        assert moved == trained, epoch
        source = {2: "best-head", 5: "best-backbone", 7: "best"}[epoch]
        before = torch.load(trained_in / "checkpoints" / f"{source}.ckpt", weights_only=True)["state_dict"]
    assert not (trained_in / "8-0.pt").exists()
    assert not differences(*ranks(trained_in, "final"))
    assert (folder / "err.txt").read_text().count("weights of stage 'head': epoch 1") == 1
    norm = {f"backbone.1.{name}" for name in ("weight", "running_mean", "running_var")}
    last = ranks(trained_in, 7)[0]["end"]
    best = torch.load(trained_in / "checkpoints" / "best-backbone.ckpt", weights_only=True)["state_dict"]
    assert not norm & differences(best, last)


@pytest.mark.ddp
@pytest.mark.slow
def test_lightnings_own_callback_still_leaves_every_rank_with_weights_of_its_own(folder):
    """Lightning issue 20340, which the documentation names: once this fails, the claim has to go."""
    early, late = (differences(*(one["end"] for one in ranks(folder / "staged upstream", epoch))) for epoch in (0, 2))
    assert not any(name.startswith("backbone.0") for name in early)
    assert {"backbone.0.weight", "backbone.0.bias"} <= late


@pytest.mark.parametrize("stage", [Stage("one", freeze=["model.backbone"]), Stage("one", train=["head"])])
def test_freezing_under_plain_ddp_says_which_strategy_it_needs(stage):
    with pytest.raises(ValueError, match="ddp_find_unused_parameters_true"):
        check_strategy([stage], DDPStrategy())
    check_strategy([Stage("one", loss_terms=["gaze"])], DDPStrategy())
    check_strategy([stage], DDPStrategy(find_unused_parameters=True))
