"""Two agents of torchrun as two nodes would start them, on this machine: one run, one folder; and a node that dies."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from gaze_lightning.main import main
from tests.interruption import CALLBACKS, digests
from tests.slurm_tasks import free_port
from tests.two_processes import clean_environment

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

_TWO_NODES = ["--config=trainer/ddp", "--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp"]


@contextmanager
def _nodes(
    rendezvous: list[list[str]], arguments: list[str], logs: Path, **last: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Start an agent per node, with one process each; the last one has more in its environment. None is left."""
    agents = []
    try:
        for node, own in enumerate(rendezvous):
            launch = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", *own, "-m", "--"]
            command = [sys.executable, *launch, "gaze_lightning", *arguments]
            environment = clean_environment(**(last if node else {}))
            with (logs / f"{node}.txt").open("w") as log:
                agents.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)
                )
        yield agents
    finally:
        for agent in agents:
            agent.terminate()  # it ends its process
        for agent in agents:
            try:
                agent.wait(90)
            except subprocess.TimeoutExpired:
                agent.kill()


def _c10d() -> list[list[str]]:
    return [["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--rdzv-id=two"]] * 2


def _static() -> list[list[str]]:
    port = free_port()
    return [[f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"] for node in (0, 1)]


@pytest.fixture
def train(phantom_arguments, tmp_path):
    return [
        "train",
        "--config=ggcam_resnet50",
        *phantom_arguments,
        f"--data.init_args.cache_dir={tmp_path / 'cache'}",
        "--data.init_args.batch_size=4",
        "--data.init_args.image_size=[48,40]",
        "--data.init_args.saliency_size=[24,20]",
        "--model.init_args.backbone=test_resnet.r160_in1k",
        "--model.init_args.output_stride=32",
        "--test_report.n_boot=10",
        "--trainer.max_epochs=3",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        CALLBACKS,
        *_TWO_NODES,
    ]


def _assert_all_are_tested_once(run: Path) -> None:
    split = pd.read_csv(run / "split.csv", dtype=str)
    predictions = pd.read_csv(run / "predictions.csv", dtype={"sample_id": str})
    tested = sorted(split.loc[split["split"] == "test", "sample_id"])
    assert sorted(predictions["sample_id"]) == tested
    assert json.loads((run / "results.json").read_text())["n"] == len(tested)


def test_two_nodes_have_one_folder_the_same_model_and_each_sample_once(train, tmp_path):
    with _nodes(_c10d(), [*train, f"--runs={tmp_path / 'runs'}"], tmp_path) as agents:
        assert [agent.wait(600) for agent in agents] == [0, 0], (tmp_path / "0.txt").read_text()[-4000:]
    (run,) = (tmp_path / "runs" / "ggcam_resnet50").iterdir()
    first, second = digests(run, 0), digests(run, 1)
    assert list(first) == list(range(3))
    assert len(set(first.values())) == 3
    assert first == second
    _assert_all_are_tested_once(run)
    texts = [(tmp_path / f"{node}.txt").read_text() for node in (0, 1)]
    assert sorted(text.count("Run folder:") for text in texts) == [0, 1]


def test_a_node_that_dies_ends_the_other_with_a_word_and_the_run_goes_on_with_one_device(train, tmp_path, caplog):
    given = [*train, f"--runs={tmp_path / 'runs'}"]
    with _nodes(_static(), given, tmp_path, INTERRUPT_AT="batch_end 1 1") as (other_one, killed):
        assert killed.wait(600) != 0
        assert other_one.wait(300) != 0  # long before its connections' time-out
    console, other = ((tmp_path / f"{node}.txt").read_text() for node in (0, 1))
    assert f"Signal {int(signal.SIGKILL)}" in other
    (run,) = (tmp_path / "runs" / "ggcam_resnet50").iterdir()
    assert "Another process of this run has gone" in console
    assert "up to the end of epoch 0" in console
    assert f"{run.name}" in console.partition("resume --run ")[2].splitlines()[0]
    own = console.partition("Another process of this run has gone")[0]
    assert "Traceback" not in own
    assert not (run / "results.json").exists()

    shutil.copytree(run, tmp_path / "before")
    main(["resume", "--run", str(run), "--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto"])
    assert "The run had 2 process(es) and goes on with 1: 4 films per step instead of 8." in caplog.text
    assert "To keep 8: --data.init_args.batch_size=8" in caplog.text
    assert "The training has 18 steps instead of 9" in caplog.text  # of the schedule
    after = digests(run)
    assert list(after) == list(range(3))
    assert after[0] == digests(tmp_path / "before")[0]
    _assert_all_are_tested_once(run)
    metrics = pd.read_csv(run / "metrics.csv")
    assert sorted(metrics.loc[metrics["val/loss"].notna(), "epoch"]) == [0, 1, 2]
