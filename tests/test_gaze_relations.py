import json

import numpy as np
import pytest
import torch
import yaml
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader

from callbacks.gaze_relations import GazeRelations
from gaze_lightning.commands.relations import relations
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.gaze.similarity import MapCC, Moments, MultiMatch
from gaze_lightning.layers import available, resolve
from gaze_lightning.relations import open_artefact
from tests.relation_fakes import Nearness, made_up_gaze
from tests.small_ranks import small_ranks


class Learner(LightningModule):
    """Takes relations and learns nothing."""

    def __init__(self, needs=True):
        super().__init__()
        self.needs_relations = needs
        self.relations_used_as = "gaze"
        self.relations = None
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def set_relations(self, relations):
        assert self.relations is None
        self.relations = relations
        return relations

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Control(Learner):
    """Learns from the relations of other readings."""

    def __init__(self):
        super().__init__()
        self.relations_used_as = "shuffled"

    def set_relations(self, relations):
        return super().set_relations(relations.shuffled(3))


class Readings(LightningDataModule):
    """Shows made-up gaze."""

    class_names = ("a", "b")
    data_note = "made-up readings"

    def __init__(self, gaze=None, flips=False):
        super().__init__()
        self.gaze = made_up_gaze(24, empty=(5,)) if gaze is None else gaze
        self.flips = flips
        self.together = None

    def training_gaze(self):
        return self.gaze

    def draw_related_together(self, relations, share):
        self.together = (relations, share)

    def show_two_views(self):
        raise AssertionError

    def reference_loader(self, part, n):
        raise AssertionError

    def train_dataloader(self):
        return DataLoader(torch.zeros(2, 1))


def fit(tmp_path, callback, *, task=None, data=None, **options):
    task = task or Learner()
    data = Readings() if data is None else data
    trainer = Trainer(
        default_root_dir=tmp_path / "run",
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    if data is False:
        trainer.fit(task, DataLoader(torch.zeros(2, 1)))
    else:
        trainer.fit(task, datamodule=data)
    return task, data


def callback(tmp_path, **options):
    return GazeRelations(**{"measure": Nearness(), "folder": str(tmp_path / "relations"), "jobs": 1} | options)


@pytest.fixture
def no_page(monkeypatch):
    """The picture has a test of its own; here only that it is written."""
    asked = []

    def draw(gaze, relations, **options):
        from matplotlib.figure import Figure

        asked.append((gaze, relations, options))
        return Figure((1, 1))

    monkeypatch.setattr("callbacks.gaze_relations.draw_relation_page", draw)
    return asked


def test_a_task_gets_the_relations_of_the_training_readings(tmp_path, capsys, no_page):
    task, data = fit(tmp_path, callback(tmp_path, tau=0.5))
    expected = open_artefact(data.gaze, Nearness(), 0.5, None, tmp_path / "elsewhere", progress=False).relations
    assert task.relations.ids == expected.ids
    np.testing.assert_array_equal(task.relations.dense(), expected.dense())
    assert len(expected.indices) > 0
    assert data.together is None
    out = capsys.readouterr().out
    assert out.count("Related readings   Nearness(reach=200") == 1
    assert "tau 0.5" in out
    written = (tmp_path / "run" / "relations.json").read_text()
    content = json.loads(written)
    assert content["statistics"]["chosen"]["pairs"] == len(expected.indices) // 2
    assert (content["measure"], content["tau"], content["digest"]) == ("Nearness", 0.5, expected.digest)
    assert (content["used_as"], content["class_names"]) == ("gaze", ["a", "b"])
    assert len(content["statistics"]["chosen"]["classes"]) == len(content["statistics"]["classes"]) == 2
    for name in data.gaze.sample_ids:
        assert name not in written + out
    assert (tmp_path / "run" / "relations.png").is_file()
    assert no_page[0][2] == {"note": "made-up readings", "class_names": ["a", "b"]}


def test_one_per_cent_by_map_is_the_default():
    plain = GazeRelations()
    assert isinstance(plain.measure, MapCC)
    assert (plain.tau, plain.positive_rate, plain.file) == (None, 0.01, None)
    assert GazeRelations(tau=0.7).positive_rate is None
    given = GazeRelations(file="somewhere")
    assert (given.measure, given.tau, given.positive_rate) == (None, None, None)


def test_a_file_is_taken_as_it_is(tmp_path, no_page):
    first, _ = fit(tmp_path, callback(tmp_path, positive_rate=0.2))
    (file,) = tmp_path.rglob("positives.npz")
    again, _ = fit(tmp_path, callback(tmp_path, measure=None, file=str(file), folder=str(tmp_path / "unused")))
    np.testing.assert_array_equal(first.relations.indices, again.relations.indices)
    assert not (tmp_path / "unused").exists()
    with pytest.raises(ConfigurationError, match="are of other readings"):
        fit(tmp_path, callback(tmp_path, measure=None, file=str(file)), data=Readings(made_up_gaze(20)))


def test_related_readings_are_drawn_together_where_asked(tmp_path, no_page):
    task, data = fit(tmp_path, callback(tmp_path, tau=0.5, related_share=0.25))
    assert data.together[0] is task.relations
    assert data.together[1] == 0.25


def test_a_control_draws_together_what_it_learns_from_and_the_files_describe_the_gaze(tmp_path, no_page):
    task, data = fit(tmp_path, callback(tmp_path, tau=0.5, related_share=0.25), task=Control())
    expected = open_artefact(data.gaze, Nearness(), 0.5, None, tmp_path / "elsewhere", progress=False).relations
    assert data.together[0] is task.relations
    assert task.relations.ids == expected.shuffled(3).ids != expected.ids
    assert no_page[0][1].ids == expected.ids
    content = json.loads((tmp_path / "run" / "relations.json").read_text())
    assert (content["used_as"], content["digest"]) == ("shuffled", expected.digest)


def test_a_control_says_that_the_numbers_are_of_the_gaze(tmp_path, no_page, capsys):
    words = "Used shuffled: these numbers are of the gaze, not of the pairs that train."
    fit(tmp_path, callback(tmp_path, tau=0.5), task=Control())
    assert capsys.readouterr().out.count(words) == 1
    assert no_page[0][2]["note"] == f"made-up readings · {words}"
    fit(tmp_path, callback(tmp_path, tau=0.5))
    assert "Used" not in capsys.readouterr().out


@pytest.mark.parametrize("task", [Learner(needs=False), BoringModel()])
def test_readings_are_not_drawn_together_for_a_task_without_relations(tmp_path, task):
    with pytest.raises(ConfigurationError, match=r"relations\.related_share=0.5 would be ignored.*drop_prob=1"):
        fit(tmp_path, callback(tmp_path, related_share=0.5), task=task)


def test_data_without_gaze_say_themselves_what_to_do(tmp_path):
    data = Readings(made_up_gaze(0))
    data.gaze_remedy = "name the gaze"
    with pytest.raises(ConfigurationError, match=r"positives: none\), or name the gaze$"):
        fit(tmp_path, callback(tmp_path), data=data)


def test_joined_readers_are_refused_for_scan_paths(tmp_path):
    joined = Readings(made_up_gaze(24)._replace(scan_paths=False))
    with pytest.raises(ConfigurationError, match="MultiMatch compares scan paths"):
        fit(tmp_path, callback(tmp_path, measure=MultiMatch()), data=joined)
    assert not (tmp_path / "relations").exists()


def test_tasks_without_relations_are_left_alone(tmp_path):
    task, _ = fit(tmp_path, callback(tmp_path), task=Learner(needs=False))
    assert task.relations is None
    assert not (tmp_path / "relations").exists()


def test_nothing_is_done_in_a_test(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, default_root_dir=tmp_path)
    task = Learner()
    callback(tmp_path).setup(trainer, task, "test")
    assert task.relations is None


def test_data_that_cannot_be_related_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"does not show its gaze.*positives: none"):
        fit(tmp_path, callback(tmp_path), data=False)
    nobody = made_up_gaze(0)
    with pytest.raises(ConfigurationError, match=r"None of the training readings has gaze.*positives: none"):
        fit(tmp_path, callback(tmp_path), data=Readings(nobody))
    with pytest.raises(ConfigurationError, match="gaze enough for Nearness"):
        fit(tmp_path, callback(tmp_path), data=Readings(made_up_gaze(3, empty=(0, 1))))


def test_films_are_mirrored_only_where_the_measure_does_not_mind(tmp_path, no_page):
    with pytest.raises(ConfigurationError, match=r"mirrors films at random, but Nearness.*Moments"):
        fit(tmp_path, callback(tmp_path), data=Readings(flips=True))
    assert not (tmp_path / "relations").exists()
    task, _ = fit(tmp_path, callback(tmp_path, measure=Nearness(mirror_invariant=True)), data=Readings(flips=True))
    assert task.relations is not None
    (file,) = tmp_path.rglob("positives.npz")
    with pytest.raises(ConfigurationError, match="mirrors films"):  # a measure that only its file knows
        fit(tmp_path, callback(tmp_path, measure=None, file=str(file)), data=Readings(flips=True))
    moments = callback(tmp_path, measure=Moments(), positive_rate=0.1, folder=str(tmp_path / "moments"))
    fit(tmp_path, moments, data=Readings(flips=True))
    (file,) = (tmp_path / "moments").rglob("positives.npz")
    task, _ = fit(tmp_path, callback(tmp_path, measure=None, file=str(file)), data=Readings(flips=True))
    assert task.relations is not None


def test_impossible_options_are_refused():
    with pytest.raises(ConfigurationError, match="related_share=2"):
        GazeRelations(related_share=2)
    with pytest.raises(ConfigurationError, match="jobs=-1"):
        GazeRelations(jobs=-1)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_have_the_same_relations_or_the_same_error(tmp_path_factory):
    folder = small_ranks(tmp_path_factory)
    assert (folder / "out.txt").read_text().count("Related readings") == 1
    first, second = ((folder / "relations -1" / f"digest {rank}").read_text() for rank in (0, 1))
    assert first == second
    for fails_on in (0, 1):
        texts = [(folder / f"relations {fails_on}" / f"error {rank}").read_text() for rank in (0, 1)]
        assert texts[fails_on] == "OSError: no such disk"
        assert texts[1 - fails_on] == "RuntimeError: on another process: OSError: no such disk"


@pytest.fixture
def source(tmp_path, phantom_arguments):
    """Arguments that select the session's phantom and a folder of relations."""
    return ["--data=PhantomDataModule", *phantom_arguments, f"--folder={tmp_path / 'relations'}"]


def test_the_command_builds_what_training_finds(source, tmp_path, capsys):
    relations([], [*source, "--measure", "MapCC", "--measure.side", "16", "--positive-rate", "0.05"])
    out = capsys.readouterr().out
    assert "Related readings   MapCC(side=16" in out
    assert "rate 5 %" in out
    (folder,) = (path.parent for path in tmp_path.rglob("meta.json"))
    assert out.splitlines()[-1] == f"Relations: {folder}"
    content = json.loads((folder / "meta.json").read_text())
    assert content["positive_rate"] == 0.05
    assert 0 < content["statistics"]["valid"] <= content["readings"]


def test_sections_of_configurations_are_defaults(source, tmp_path, capsys):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("relations: {measure: {class_path: Moments}, positive_rate: 0.02, related_share: 0.5}")
    second.write_text("relations: {positive_rate: 0.03}\nmodel: {class_path: Unused}")
    relations([str(first), str(second)], source)
    out = capsys.readouterr().out
    assert "Moments(" in out
    assert "rate 3 %" in out
    relations([str(first), str(second)], [*source, "--tau", "0.9"])
    assert "tau 0.9" in capsys.readouterr().out.split("all pairs")[0]
    thresholds = {path.parent.name for path in tmp_path.rglob("meta.json")}
    assert thresholds == {"rate-0.03", "tau-0.9"}


def test_an_experiment_and_the_command_find_the_same_relations(source, tmp_path, monkeypatch, capsys):
    gaze, opened = [], GazeRelations.open
    with monkeypatch.context() as patch:
        patch.setattr(GazeRelations, "open", lambda self, given: gaze.append(given) or opened(self, given))
        relations([str(file) for file in resolve(["mcgip_moco_resnet18"]).files], source)
    captured = capsys.readouterr()
    assert "rate 1 %" in captured.out.split("all pairs")[0]
    assert "No experiment is named" not in captured.err
    (folder,) = (path.parent for path in tmp_path.rglob("meta.json"))
    with monkeypatch.context() as patch:
        patch.setattr(MapCC, "prepare", lambda *_: pytest.fail("compared again"))
        trained = GazeRelations(folder=str(tmp_path / "relations")).open(gaze[0], progress=False)
    assert trained.folder == folder


@pytest.mark.parametrize("experiment", [name for name in available() if name.startswith("mcgip_")])
@pytest.mark.parametrize("data", ["phantom", "egd_cxr", "mimic_cxr"])
def test_measure_and_threshold_of_the_experiments_are_the_defaults(experiment, data):
    """A threshold on the command line would meet the other kind from a file: both together are refused."""
    for file in resolve([experiment, f"data/{data}"]).files:
        content = yaml.safe_load(file.read_text()) or {}
        assert not {"measure", "tau", "positive_rate"} & set(content.get("relations") or {}), file


def test_two_thresholds_name_the_option_that_takes_one_back(tmp_path):
    with pytest.raises(ConfigurationError, match=r"--relations\.positive_rate=null"):
        fit(tmp_path, callback(tmp_path, tau=0.7, positive_rate=0.01))


def test_without_an_experiment_the_command_says_so(source, capsys):
    relations([], [*source, "--positive_rate=0.1"])
    assert "No experiment is named" in capsys.readouterr().err


def test_the_command_says_that_films_come_first_where_they_do(source, tmp_path, capsys):
    arguments = [*source, "--positive_rate=0.1", f"--data.init_args.cache_dir={tmp_path / 'cache'}"]
    relations([], arguments)
    assert "The films are resized first" in capsys.readouterr().err
    relations([], arguments)
    assert "resized" not in capsys.readouterr().err


def test_the_help_describes_the_command_and_not_its_function(capsys):
    with pytest.raises(SystemExit) as stopped:
        relations([], ["--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert "another threshold takes seconds" in " ".join(out.split())
    for word in ("Args:", "Raises:", "SystemExit", "configuration files;"):
        assert word not in out


@pytest.mark.parametrize("wrong", [["--measure=Wrong"], ["--measure", "Wrong"]])
def test_a_measure_that_does_not_exist_is_named_with_those_that_do(source, wrong, capsys):
    with pytest.raises(SystemExit) as stopped:
        relations([], [*source, *wrong])
    assert stopped.value.code == 2
    message = "no measure is called Wrong: choose DHash, MapCC, Moments, MultiMatch"
    assert capsys.readouterr().err.strip() == message


def test_the_command_refuses_joined_readers_and_films_without_gaze(source, monkeypatch, capsys):
    found = made_up_gaze(12)._replace(scan_paths=False)
    monkeypatch.setattr("data_modules.PhantomDataModule.training_gaze", lambda self: found)
    with pytest.raises(SystemExit) as stopped:
        relations([], [*source, "--measure=MultiMatch"])
    assert stopped.value.code == 2
    assert "MultiMatch compares scan paths" in capsys.readouterr().err
    found = made_up_gaze(0)
    with pytest.raises(SystemExit) as stopped:
        relations([], source)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "nothing to compare; choose data with gaze (data/egd_cxr" in error
    assert "gaze_source" not in error


def test_what_a_user_can_put_right_ends_with_status_2(source, capsys):
    for wrong, message in (
        (["--tau=0.5", "--positive_rate=0.1"], "either tau"),
        (["--positive_rate=2"], "between 0 and 1"),
        (["--jobs=-1"], "jobs=-1"),
        (["--relations.tau=0.7"], "--relations.tau is an option of training; here it is --tau"),
    ):
        with pytest.raises(SystemExit) as stopped:
            relations([], [*source, *wrong])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
