"""The Makefile as a user meets it; nothing is installed or run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


def test_make_alone_explains_itself_and_lists_the_experiments():
    text = _make().stdout
    assert "make train" in text
    assert "ggcam_resnet50_released" in text
    assert "DATA_ROOT" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "EXP=ggcam_resnet51"], "ggcam_resnet50_raw_true"),
        (["train"], "ggcam_resnet50_raw_true"),
        (["train", "EXP=ggcam_resnet50", "SEDE=3"], "DATA_ROOT"),
        (["tset"], "test-model"),
    ],
)
def test_unknown_name_exits_2_and_lists_the_existing_ones(arguments, message):
    done = _make(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_train_is_one_command_and_a_root_with_spaces_stays_one_word():
    done = _make("-n", "train", "EXP=ggcam_resnet50", "DATA=reflacx", "DATA_ROOT=/my data", "SEED=3")
    commands = [line for line in done.stdout.splitlines() if "-m gaze_lightning" in line]
    assert len(commands) == 1
    assert "'--data.init_args.root=/my data'" in commands[0]
    assert "--config data/reflacx" in commands[0]
    assert "--seed_everything=3" in commands[0]


def test_resume_without_a_run_exits_2_and_with_one_goes_on_in_it(installed):
    done = _make("resume", installed)
    assert done.returncode == 2
    assert "make resume RUN=runs/" in done.stderr
    done = _make("-s", "resume", installed, "RUN=runs/my run", "ARGS=--trainer.devices=1")
    assert done.returncode == 0, done.stderr
    assert "-m|gaze_lightning|resume|--run|runs/my run|--trainer.devices=1|" in done.stdout


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        (["agent", "ID=a/b/c", "DATA=reflacx"], "make agent would ignore DATA"),
        (["resume", "RUN=runs/x", "TRAINER=auto"], "make resume would ignore TRAINER"),
        (["test", "EXP=ggcam_resnet50"], "make test would ignore EXP"),
    ],
)
def test_a_variable_that_the_target_does_not_take_is_refused(installed, given, ignored):
    done = _make("-s", installed, *given)
    assert done.returncode == 2
    assert ignored in done.stderr
    assert "it takes: ARGS" in done.stderr
