"""Checkpoints are whole, whenever their writer dies."""

import multiprocessing
import os
import signal

import torch

from gaze_lightning.checkpoint_io import AtomicCheckpointIO


def _die_in_the_middle(path):
    def half(checkpoint, file):
        file.write(b"half of it")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)


def test_a_death_while_a_checkpoint_is_written_leaves_the_earlier_one(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 0}, path)
    process = multiprocessing.get_context("fork").Process(target=_die_in_the_middle, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(list(path.parent.iterdir())) == 2  # what death left lies beside it
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 0}
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    assert AtomicCheckpointIO().load_checkpoint(path) == {"epoch": 1}
    assert list(path.parent.iterdir()) == [path]
