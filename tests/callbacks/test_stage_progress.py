from types import SimpleNamespace

import pytest
from pytorch_lightning import Callback

from callbacks import Stage, StageProgressBar
from callbacks.stage import HasStages, StagePosition
from tests.staged_task import run


class Known(Callback):
    def __init__(self, position):
        self.position = position

    def stage_position(self, trainer):
        return self.position


def description(callbacks, epoch=0):
    bar = StageProgressBar()
    bar._trainer = SimpleNamespace(callbacks=callbacks, max_epochs=8)
    return bar._get_train_description(epoch)


def test_the_description_says_which_stage_of_how_many_and_which_epoch_of_it():
    position = StagePosition(2, 4, "classify", 1, 3)
    assert isinstance(Known(position), HasStages)
    assert description([Callback(), Known(position)], 5) == "stage 2/4 classify  1/3"


@pytest.mark.parametrize("callbacks", [[], [Known(None)]])
def test_without_stages_it_is_lightnings(callbacks):
    assert description(callbacks, 3).rstrip() == "Epoch 3/7"


def test_the_bar_names_the_stage_of_the_epoch_that_starts(tmp_path):
    """Although the bar stands before the stages in the list of callbacks."""
    shown = []

    class Shown(StageProgressBar):
        def on_train_epoch_start(self, trainer, pl_module):
            super().on_train_epoch_start(trainer, pl_module)
            shown.append(self.train_progress_bar.description)

    run(tmp_path, [Stage("a", 1), Stage("b", 2)], epochs=3, callbacks=[Shown()], enable_progress_bar=True)
    assert shown == ["stage 1/2 a  1/1", "stage 2/2 b  1/2", "stage 2/2 b  2/2"]
