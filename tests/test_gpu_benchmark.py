"""What the benchmark of GPUs makes of trainings that fail; no training runs."""

import json

import pytest

from benchmarks import gpu
from benchmarks.training_speed import TrainingError


@pytest.mark.parametrize(
    ("failing", "refused", "status", "cell"),
    [("bf16", True, 0, "-"), ("bf16", False, 1, "failed"), ("fp32", True, 1, "-")],
)
def test_a_refusal_is_a_dash_and_a_crash_a_failure(monkeypatch, tmp_path, capsys, failing, refused, status, cell):
    def train(mode):
        if mode == failing:
            raise TrainingError("it said\nwhat was wrong", refused=refused)
        return [12.5, 7.25], 100

    monkeypatch.setattr(gpu, "arguments", lambda experiment, root, mode, run, plumbing: mode)
    monkeypatch.setattr(gpu, "train", train)
    file = tmp_path / "rows.json"
    assert gpu.main(["--plumbing", "--experiments", "mtunet", "--json", str(file)]) == status
    (row,) = json.loads(file.read_text())["rows"]
    assert {mode for mode in gpu.MODES if mode in row} == set(gpu.MODES) - {failing}
    assert list(row["refused" if refused else "faults"]) == [failing]
    assert not row["faults" if refused else "refused"]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "mtunet" in line and "│" in line)
    cells = dict(zip(gpu.MODES, (one.strip() for one in line.split("│")[2:-1]), strict=True))
    assert cells == dict.fromkeys(gpu.MODES, "7.2") | {failing: cell}
