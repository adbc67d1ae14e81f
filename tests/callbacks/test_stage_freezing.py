import pytest
from torch import nn

from callbacks.stage import Stage
from callbacks.stage_freezing import StageFreezing


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
        self.decoder = nn.Linear(2, 2)
        self.drop = nn.Dropout()
        self.tied = nn.Linear(2, 2)
        self.tied.weight = self.decoder.weight
        self.free = nn.Parameter(nn.init.zeros_(self.decoder.bias.detach().clone()))


def state(**fields):
    net = Net()
    StageFreezing(net).apply(Stage("one", **fields), evaluate=True)
    training = {name for name, module in net.named_modules() if module.training}
    return {name for name, parameter in net.named_parameters() if parameter.requires_grad}, training


ALL = {name for name, _ in Net().named_parameters()}
MODULES = {name for name, _ in Net().named_modules()}


@pytest.mark.parametrize(
    ("fields", "trained", "training"),
    [
        ({}, ALL, MODULES),
        ({"train": ["decoder"]}, {"decoder.weight", "decoder.bias"}, {"", "decoder"}),
        (
            {"train": ["encoder.2"]},
            {"encoder.2.0.weight", "encoder.2.0.bias"},
            {"", "encoder", "encoder.2", "encoder.2.0", "encoder.2.1"},
        ),
        (
            {"train": ["encoder"], "freeze": ["encoder.2"]},
            {"encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"},
            {"", "encoder", "encoder.0", "encoder.1"},
        ),
        ({"train": ["free"]}, {"free"}, {""}),
        ({"train": ["decoder.bias"]}, {"decoder.bias"}, {"", "decoder"}),
        ({"freeze": ["*.bias", "drop"]}, {name for name in ALL if not name.endswith("bias")}, MODULES - {"drop"}),
        ({"freeze": ["tied"]}, ALL - {"decoder.weight", "tied.bias"}, MODULES - {"tied"}),
        ({"freeze": ["tied.weight"]}, ALL - {"decoder.weight"}, MODULES),
        ({"train": ["tied.weight"]}, {"decoder.weight"}, {"", "tied"}),
    ],
)
def test_patterns_choose_parameters_and_modes(fields, trained, training):
    assert state(**fields) == (trained, training)


def test_what_never_trained_and_was_in_evaluation_mode_stays_so_and_everything_returns():
    net = Net()
    net.free.requires_grad = False
    net.encoder[1].eval()
    freezing = StageFreezing(net)
    assert all(parameter is not net.free for parameter in freezing.trained(Stage("one")))
    freezing.apply(Stage("one", train=["encoder", "free"]), evaluate=True)
    assert not net.free.requires_grad
    assert not net.encoder[1].training
    freezing.restore()
    assert {name for name, parameter in net.named_parameters() if not parameter.requires_grad} == {"free"}
    assert {name for name, module in net.named_modules() if not module.training} == {"encoder.1"}


def test_a_frozen_parameter_has_no_gradient_left():
    net = Net()
    net.decoder(net.free).sum().backward()
    StageFreezing(net).apply(Stage("one", freeze=["decoder"]), evaluate=True)
    assert net.decoder.bias.grad is None
    assert net.free.grad is not None


def test_patterns_that_match_nothing_are_named():
    assert StageFreezing(Net()).unmatched(Stage("one", train=["encoder", "x"], freeze=["*.bias", "y.*"])) == [
        "x",
        "y.*",
    ]
