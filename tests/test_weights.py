import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gaze_lightning.models import load_weights


def network(width=4):
    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))


def test_all_keys_of_a_safetensors_file_are_loaded(tmp_path):
    source, target = network(), network()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    report = load_weights(target, tmp_path / "w.safetensors")
    assert len(report.matched) == 4
    assert report.missing == report.unexpected == report.mismatched == ()
    for key, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[key], value)


@pytest.mark.parametrize("prefix", ["module.", "model.backbone.net."])
def test_a_common_prefix_and_a_container_are_removed(tmp_path, prefix):
    source, target = network(), network()
    tensors = {prefix + key: value for key, value in source.state_dict().items()}
    torch.save({"state_dict": tensors | {"other.scale": torch.ones(1)}, "epoch": 3}, tmp_path / "w.ckpt")
    report = load_weights(target, tmp_path / "w.ckpt")
    assert len(report.matched) == 4
    assert report.unexpected == ("other.scale",)
    assert torch.equal(target[1].weight, source[1].weight)


def test_partial_loading_is_counted_with_keys(tmp_path):
    source, target = network().state_dict(), network()
    source["1.weight"] = torch.zeros(2, 9)
    source["fc.weight"] = torch.zeros(1)
    del source["1.bias"]
    before = target[1].weight.clone()
    torch.save(source, tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert (report.matched, report.missing) == (("0.weight", "0.bias"), ("1.bias",))
    assert (report.unexpected, report.mismatched) == (("fc.weight",), ("1.weight",))
    assert "2 matched; 1 missing (1.bias); 1 unexpected (fc.weight); 1 mismatched (1.weight)" in str(report)
    assert torch.equal(target[1].weight, before)


def test_no_match_at_all_is_an_error_and_changes_nothing(tmp_path):
    target = network()
    before = {key: value.clone() for key, value in target.state_dict().items()}
    save_file({"stem.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"none of its 1 tensors fits the 4 of Sequential .*another architecture"):
        load_weights(target, tmp_path / "w.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in target.state_dict().items())


class Gadget:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_file_that_executes_code_is_refused(tmp_path):
    sentinel = tmp_path / "executed"
    torch.save({"state_dict": Gadget(str(sentinel))}, tmp_path / "w.pt")
    with pytest.raises(Exception, match=r"(?i)weights.only"):
        load_weights(network(), tmp_path / "w.pt")
    assert not sentinel.exists()


@pytest.mark.parametrize(
    ("name", "error"), [("absent.safetensors", FileNotFoundError), ("w.bin", ValueError), ("empty.pt", ValueError)]
)
def test_unusable_files_are_named(tmp_path, name, error):
    if name == "w.bin":
        (tmp_path / name).write_bytes(b"")
    if name == "empty.pt":
        torch.save({"epoch": 1}, tmp_path / name)
    with pytest.raises(error, match=name):
        load_weights(network(), tmp_path / name)
