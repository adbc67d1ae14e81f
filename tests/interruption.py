"""Runs that die at a chosen moment, and what two runs left compared; importable by processes that tests start."""

import hashlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint

from tests.two_processes import clean_environment

CALLBACKS = "--trainer.callbacks=[tests.interruption.Interruption,tests.interruption.Digest,tests.interruption.Order]"
_UNSTABLE = ("seconds", "current_score")


class Interruption(Checkpoint):
    """SIGKILL for its own process, after all else in the hook that ``INTERRUPT_AT`` names: ``hook epoch [batch]``."""

    def setup(self, trainer, pl_module, stage):
        callbacks = [callback for callback in trainer.callbacks if callback is not self]
        trainer.callbacks = [*callbacks, self]

    def _at(self, hook, trainer, batch=None):
        moment = [hook, trainer.current_epoch] + ([] if batch is None else [batch])
        if os.environ.get("INTERRUPT_AT", "").split() == [str(part) for part in moment]:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_epoch_start(self, trainer, pl_module):
        self._at("epoch_start", trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._at("batch_end", trainer, batch_idx)

    def on_validation_end(self, trainer, pl_module):
        self._at("validation_end", trainer)

    def on_train_epoch_end(self, trainer, pl_module):
        self._at("epoch_end", trainer)

    def on_test_epoch_end(self, trainer, pl_module):
        self._at("test_end", trainer)


class Digest(Callback):
    """One line per epoch and process: the hash of all parameters and buffers at its end."""

    def on_train_epoch_end(self, trainer, pl_module):
        digest = hashlib.sha256()
        for name, value in pl_module.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        path = Path(trainer.default_root_dir) / f"digest_{trainer.global_rank}.txt"
        with path.open("a") as file:
            file.write(f"{trainer.current_epoch} {digest.hexdigest()}\n")


class Order(Callback):
    """One line per training step and process: hashes of the batch's ids in their order and of all its tensors."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        ids, values = hashlib.sha256("\n".join(batch["sample_id"]).encode()), hashlib.sha256()
        for name in sorted(name for name, value in batch.items() if isinstance(value, torch.Tensor)):
            values.update(name.encode() + batch[name].cpu().contiguous().numpy().tobytes())
        path = Path(trainer.default_root_dir) / f"order_{trainer.global_rank}.txt"
        with path.open("a") as file:
            file.write(f"{trainer.current_epoch} {batch_idx} {ids.hexdigest()} {values.hexdigest()}\n")


def command(arguments: list[str], log: str, moment: str = "") -> None:
    """The whole life of a process: the command line with its output in a file."""
    with open(log, "ab") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.environ["INTERRUPT_AT"] = moment
    multiprocessing.set_start_method("fork", force=True)  # of loading processes, as in a process that a shell starts
    torch.set_num_threads(1)
    from gaze_lightning.main import main

    main(arguments)


def digests(run: Path, rank: int = 0) -> dict[int, str]:
    """The hashes that ``Digest`` wrote; an epoch that was run again counts as it was in the end."""
    lines = (run / f"digest_{rank}.txt").read_text().splitlines()
    return {int(epoch): digest for epoch, digest in (line.split() for line in lines)}


def order(run: Path, rank: int = 0) -> dict[tuple[int, int], tuple[str, ...]]:
    """What ``Order`` wrote, by epoch and batch; an epoch that was run again must have had the same batches."""
    found: dict[tuple[int, int], tuple[str, ...]] = {}
    for line in (run / f"order_{rank}.txt").read_text().splitlines():
        epoch, batch, *hashes = line.split()
        assert found.setdefault((int(epoch), int(batch)), tuple(hashes)) == tuple(hashes), f"epoch {epoch}: {batch}"
    return found


def weight_difference(a: Path, b: Path) -> float:
    """Largest absolute difference of two runs' parameters and buffers after their last epochs."""
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (a, b)]
    assert states[0].keys() == states[1].keys()
    pairs = [(states[0][name].double(), states[1][name].double()) for name in states[0]]
    return max(float((one - other).abs().max()) for one, other in pairs if one.numel())


def same_metrics(a: Path, b: Path) -> bool:
    """Whether the curves, the results and the predictions of two runs are the same to the last digit."""
    curves = [pd.read_csv(run / "metrics.csv", dtype=str) for run in (a, b)]
    names = ("results.json", "predictions.csv")
    return curves[0].equals(curves[1]) and all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def assert_same_run(a: Path, b: Path, named: Path | None = None) -> None:
    """All that is in two run folders but for times and provenance is the same bit for bit.

    ``named`` is the folder that the files of ``a`` name, if it is a copy.
    """
    files = [sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file()) for run in (a, b)]
    assert files[0] == files[1]
    assert digests(a) == digests(b)
    for rank in range(len(list(a.glob("order_*.txt")))):
        assert order(a, rank) == order(b, rank)
    for file in files[0]:
        first, second = a / file, b / file
        if file.suffix == ".ckpt":
            _assert_same(checkpoint(first, named or a), checkpoint(second, b), str(file))
        elif file.name == "stages.json":
            assert stages(first) == stages(second)
        elif file.name == "metrics.csv":
            pd.testing.assert_frame_equal(*(pd.read_csv(path, dtype=str) for path in (first, second)))
        elif file.suffix in (".csv", ".png") or file.name == "results.json":
            assert first.read_bytes() == second.read_bytes(), file


def checkpoint(path: Path, run: Path) -> dict[str, Any]:
    """A checkpoint without the run's folder, times, and a score that Lightning neither restores nor reads."""
    return _plain(torch.load(path, weights_only=True), str(run.resolve()))


def stages(path: Path) -> list[dict[str, Any]]:
    """``stages.json`` without times."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in json.loads(path.read_text())]


def _plain(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(folder, "RUN")
    if isinstance(value, dict):
        return {_plain(key, folder): _plain(one, folder) for key, one in value.items() if key not in _UNSTABLE}
    if isinstance(value, list | tuple):
        return [_plain(one, folder) for one in value]
    return value


def _assert_same(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype, where
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=where)
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            _assert_same(a[key], b[key], f"{where}: {key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (first, second) in enumerate(zip(a, b, strict=True)):
            _assert_same(first, second, f"{where}: {index}")
    else:
        assert a == b or (a != a and b != b), f"{where}: {a!r}, {b!r}"


def command_line(arguments: list[str], interrupt_at: str = "", limit: float = 900) -> None:
    """The command line in a process of its own, which must end well, or be killed where it was to be."""
    done = subprocess.run(
        [sys.executable, "-m", "gaze_lightning", *arguments],
        env=clean_environment(INTERRUPT_AT=interrupt_at),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if interrupt_at else 0), done.stderr[-3000:]
