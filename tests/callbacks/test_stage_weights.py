import copy

import pytest
import torch
from pytorch_lightning import Trainer

from callbacks.stage_weights import take_weights
from tests.staged_task import equal, task


@pytest.fixture
def trainer(tmp_path):
    return Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, enable_checkpointing=False)


def write(path, model, change):
    state = copy.deepcopy(model.state_dict())
    change(state)
    torch.save({"state_dict": state, "epoch": 2}, path)


def rename(state):
    for name in list(state):
        state[f"module.{name}"] = state.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename, "0 of 10 tensors match, 10 missing, 10 unexpected"),
        (lambda state: state.pop("head.bias"), r"9 of 10 tensors match, 1 missing.*\(head.bias"),
        (lambda state: state.update(more=torch.zeros(1)), "10 of 10 tensors match, 0 missing, 1 unexpected"),
        (lambda state: state.update({"head.bias": torch.zeros(3)}), "9 of 10 .* 1 of another shape"),
    ],
)
def test_weights_that_do_not_fit_exactly_are_refused_and_leave_the_model_alone(tmp_path, trainer, change, message):
    path, model = tmp_path / "a.ckpt", task()
    write(path, model, change)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=f"weights of stage 'one': .*{message}"):
        take_weights(trainer, model, str(path), 2, "one")
    assert equal(before, model.state_dict())


def test_weights_and_buffers_that_fit_are_taken(tmp_path, trainer):
    source, target = task(), task()
    with torch.no_grad():
        source.head.bias.fill_(7)
    source.body[1].running_mean.fill_(3)
    write(tmp_path / "a.ckpt", source, lambda state: None)
    take_weights(trainer, target, str(tmp_path / "a.ckpt"), 2, "one")
    assert equal(source.state_dict(), target.state_dict())


def test_a_checkpoint_of_another_epoch_is_refused(tmp_path, trainer):
    write(tmp_path / "a.ckpt", task(), lambda state: None)
    with pytest.raises(ValueError, match="is of epoch 2, the best epoch was 4"):
        take_weights(trainer, task(), str(tmp_path / "a.ckpt"), 4, "one")


@pytest.mark.parametrize("path", ["", "/nowhere/best.ckpt"])
def test_a_missing_checkpoint_is_named(trainer, path):
    with pytest.raises(ValueError, match=f"there is no checkpoint {path or 'of its best epoch'}"):
        take_weights(trainer, task(), path, 4, "one")


def test_a_file_that_is_no_checkpoint_is_an_error_like_any_other_and_not_one_of_the_first_process_alone(
    tmp_path, trainer
):
    (tmp_path / "a.ckpt").write_bytes(b"cut off")
    sent = []
    trainer.strategy.broadcast = lambda message: sent.append(message) or message
    with pytest.raises(ValueError, match=r"weights of stage 'one': .*a.ckpt: "):
        take_weights(trainer, task(), str(tmp_path / "a.ckpt"), 2, "one")
    assert len(sent) == 1
