import json
import subprocess
import sys

import pytest
import torch

from callbacks import Provenance
from callbacks.provenance import git_state, installed_versions, without_secrets


def entries(folder):
    return json.loads((folder / "provenance.json").read_text())["entries"]


def test_a_finished_run_says_what_where_and_how_long(tiny, trainer_in, tmp_path, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "17")
    monkeypatch.setattr(sys, "argv", ["gaze-lightning", "fit", "--wandb_api_key=abc"])
    data = tiny.Data()
    trainer = trainer_in(Provenance())
    trainer.fit(tiny.Model(), datamodule=data)
    (entry,) = entries(tmp_path)
    assert (entry["stage"], entry["state"], entry["seed"]) == ("fit", "finished", 17)
    assert entry["wall_time_s"] > 0
    assert entry["versions"]["torch"] == installed_versions()["torch"]
    assert entry["data"] == {"module": "TinyData", "fingerprint": "abc123"}
    assert entry["hardware"]["threads"] == torch.get_num_threads()
    assert entry["command"] == ["gaze-lightning", "fit", "--wandb_api_key=***"]
    assert data.splits_written == [tmp_path / "split.csv"]
    trainer.test(tiny.Model(), datamodule=data, verbose=False)
    assert [entry["stage"] for entry in entries(tmp_path)] == ["fit", "test"]
    assert data.splits_written == [tmp_path / "split.csv"]


def test_a_failed_run_says_so_without_the_text_of_the_error(tiny, trainer_in, tmp_path):
    class Broken(tiny.Model):
        def training_step(self, batch, batch_idx):
            (entry,) = entries(tmp_path)
            assert entry["state"] == "running"
            raise RuntimeError("patient 12345678")

    with pytest.raises(RuntimeError, match="12345678"):
        trainer_in(Provenance()).fit(Broken(), datamodule=tiny.Data())
    (entry,) = entries(tmp_path)
    assert entry["state"] == "stopped by RuntimeError"
    assert entry["wall_time_s"] > 0
    assert "12345678" not in (tmp_path / "provenance.json").read_text()


def test_a_dry_run_leaves_nothing(tiny, trainer_in, tmp_path):
    trainer_in(Provenance(), fast_dev_run=True).fit(tiny.Model(), datamodule=tiny.Data())
    assert not (tmp_path / "provenance.json").exists()


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_git_state_knows_commit_and_changes(tmp_path):
    assert git_state(tmp_path) is None
    git(tmp_path, "init")
    assert git_state(tmp_path) == {"commit": None, "dirty": False}
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = git_state(tmp_path)
    assert len(clean["commit"]) == 40
    assert not clean["dirty"]
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == {"commit": clean["commit"], "dirty": True}


def test_secrets_are_hidden_in_both_spellings():
    given = ["run", "--logger.api_key", "abc", "--token=def", "--lr", "0.1", "--secret", "--password", "x", "keyboard"]
    assert without_secrets(given) == [
        *("run", "--logger.api_key", "***", "--token=***", "--lr", "0.1", "--secret", "--password", "***", "keyboard")
    ]
