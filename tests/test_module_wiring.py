"""Every option of a data module arrives where it belongs: at the shared base, or at the reader that it is for."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_modules import cxr_p, egd_cxr, joint, manifest, mimic_cxr, reflacx
from data_modules.augment import PRESETS
from data_modules.base import GazeDataModule
from data_modules.sources import FixationColumns

MODULES: dict[str, tuple[Any, type[GazeDataModule]]] = {
    "egd_cxr": (egd_cxr, egd_cxr.EyeGazeDataModule),
    "reflacx": (reflacx, reflacx.ReflacxDataModule),
    "mimic_cxr": (mimic_cxr, mimic_cxr.MimicCXRDataModule),
    "joint": (joint, joint.JointDataModule),
    "cxr_p": (cxr_p, cxr_p.CxrPDataModule),
    "manifest": (manifest, manifest.ManifestDataModule),
}
READERS = ("locate_", "read_", "mean_readers")

SHARED: dict[str, Any] = {
    "intensity": "window",
    "image_size": (32, 16),
    "saliency_size": (8, 4),
    "batch_size": 3,
    "eval_batch_size": 5,
    "num_workers": 2,
    "split": "kfold",
    "split_seed": 7,
    "split_file": "parts.csv",
    "folds": 9,
    "fold": 4,
    "held_out": ["split.csv"],
    "cache_dir": "films",
    "gaze_source": "mean",
    "gaze_weight": "count",
    "augmentation": "light",
    "sampling": "gaze_balanced",
    "seed": 11,
    "missing": "drop",
    "label_fraction": 0.5,
}

# module -> option -> value, and where it arrives: the reader's argument, or a chain of them from `read_table` inwards
FILMS: dict[str, tuple[Any, str]] = {
    "films_root": ("/films", "films.films_root"),
    "tables_root": ("/tables", "films.tables_root"),
    "films_format": ("dicom", "films.file_format"),
}
OPTIONS: dict[str, dict[str, tuple[Any, str]]] = {
    "egd_cxr": {
        **FILMS,
        "root": ("/data", "root.root films.root"),
        "point_source": ("raw_samples", "point_source root.point_source"),
        "sigma": (42.0, "sigma"),
        "missing": ("drop", "missing"),
    },
    "reflacx": {
        **FILMS,
        "root": ("/data", "root.root films.root"),
        "phases": ([2, 3], "phases root.phases"),
        "labels": (["Consolidation"], "labels"),
        "certainty_threshold": (4, "certainty_threshold"),
        "point_source": ("raw_samples", "point_source"),
        "raw_step": (10, "raw_step"),
        "sigma_degrees": (0.5, "sigma_degrees"),
        "missing": ("drop", "missing"),
    },
    "mimic_cxr": {
        **FILMS,
        "root": ("/data", "films.root gaze.egd_cxr.root.root gaze.reflacx.root.root"),
        "egd_root": ("/egd", "gaze.egd_cxr.root.explicit"),
        "reflacx_root": ("/reflacx", "gaze.reflacx.root.explicit"),
        "labeller": ("negbio", "labeller"),
        "labels": (["Edema"], "labels"),
        "uncertain": ("positive", "uncertain"),
        "blank": ("negative", "blank"),
        "views": (["LATERAL"], "views"),
        "test_labels": ("radiologist", "test_labels"),
        "unlabelled": ("keep", "unlabelled"),
        "sigma": (42.0, "gaze.egd_cxr.sigma"),
        "sigma_degrees": (0.5, "gaze.reflacx.sigma_degrees"),
        "gaze_weight": ("count", "gaze_weight"),
        "missing": ("drop", "missing gaze.egd_cxr.missing gaze.reflacx.missing"),
    },
    "joint": {
        **FILMS,
        "root": ("/data", "films.root egd_root.root egd.root.root reflacx.root.root"),
        "egd_root": ("/egd", "egd_root.explicit egd.root.explicit"),
        "reflacx_root": ("/reflacx", "reflacx.root.explicit"),
        "label_space": ("chexpert", "label_space"),
        "labels": (["Consolidation"], "labels reflacx.labels"),
        "labeller": ("negbio", "labeller"),
        "uncertain": ("positive", "uncertain"),
        "blank": ("negative", "blank"),
        "phases": ([2, 3], "reflacx.phases reflacx.root.phases"),
        "certainty_threshold": (4, "reflacx.certainty_threshold"),
        "point_source": ("raw_samples", "egd.point_source egd_root.point_source reflacx.point_source"),
        "raw_step": (10, "reflacx.raw_step"),
        "sigma": (42.0, "egd.sigma"),
        "sigma_degrees": (0.5, "reflacx.sigma_degrees"),
        "missing": ("drop", "egd.missing reflacx.missing"),
    },
    "cxr_p": {
        "root": ("/data", "gaze_root.root films_root"),
        "gaze_root": ("/gaze", "gaze_root.gaze_root"),
        "films_root": ("/films", "films_root"),
        "masks_csv": ("/masks.csv", "masks_csv"),
        "sigma_px": (42.0, "sigma_px"),
        "missing": ("drop", "missing"),
    },
    "manifest": {
        "root": ("/data", "root"),
        "images_csv": ("images.csv", "images_csv"),
        "fixations_csv": ("gaze.csv", "fixations_csv"),
        "image_column": ("film", "image_column"),
        "subject_column": ("person", "subject_column"),
        "split_column": ("part", "split_column"),
        "label_columns": (["mass"], "label_columns"),
        "fixation_columns": (FixationColumns(x="u"), "fixation_columns"),
        "readers": ("merged", "readers"),
        "sigma_px": (42.0, "sigma_px"),
        "chest_box_columns": (["a", "b", "c", "d"], "chest_box_columns"),
        "missing": ("drop", "missing"),
    },
}
# what the tests with names of their own are about
ELSEWHERE = {
    "mimic_cxr": {"gaze_sources"},
    "joint": {"readers", "align", "chest_margin"},
    "reflacx": {"readers", "align", "chest_margin"},
    "cxr_p": {"open_data"},
    "manifest": {"open_data", "class_column", "class_names", "align", "chest_margin"},
    "egd_cxr": set[str](),
}
ALWAYS: dict[str, dict[str, Any]] = {
    "mimic_cxr": {"gaze_sources": ["egd_cxr", "reflacx"]},
    "cxr_p": {"root": "/x"},
    "manifest": {"root": "/x", "images_csv": "x.csv"},
}


@dataclass
class Call:
    """A call that was intercepted, its arguments by name."""

    name: str
    arguments: dict[str, Any]


def traced(name: str, function: Callable[..., Any]) -> Callable[..., Call]:
    signature = inspect.signature(function)

    def call(*values: Any, **named: Any) -> Call:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        return Call(name, dict(bound.arguments))

    return call


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make a data module and return its `read_table`, every reader replaced by a record of its call."""

    for file, _ in MODULES.values():
        for reader, function in list(vars(file).items()):
            if reader.startswith(READERS):
                monkeypatch.setattr(file, reader, traced(reader, function))
    return lambda name, **options: MODULES[name][1](**(ALWAYS.get(name, {}) | options)).read_table()


def follow(call: Any, chain: str) -> Any:
    for part in chain.split("."):
        call = call.arguments[part] if isinstance(call, Call) else call[part]
    return call


def plain(value: Any) -> Any:
    """Paths as text and tuples as lists, so that an argument compares with the option."""
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("name", "option"), [(name, option) for name, own in OPTIONS.items() for option in own])
def test_an_option_arrives_at_the_reader(read: Callable[..., Any], name: str, option: str) -> None:
    value, chains = OPTIONS[name][option]
    before, after = read(name), read(name, **{option: value})
    for chain in chains.split():
        assert plain(follow(after, chain)) == value
        assert plain(follow(before, chain)) != value


@pytest.mark.parametrize("name", MODULES)
def test_no_option_is_forgotten_here(name: str) -> None:
    options = set(inspect.signature(MODULES[name][1]).parameters)
    assert options == set(SHARED) | set(OPTIONS[name]) | ELSEWHERE[name]
    base = set(inspect.signature(GazeDataModule).parameters)
    assert base == set(SHARED) | {"class_names", "label_type", "open_data"}


@pytest.mark.parametrize("name", MODULES)
def test_shared_options_arrive_at_the_base(name: str) -> None:
    own = {option: value for option, value in ALWAYS.get(name, {}).items() if option != "gaze_sources"}
    data = MODULES[name][1](**own, **SHARED)
    expected = SHARED | {"cache_dir": Path("films"), "augmentation": PRESETS["light"]}
    assert {option: getattr(data, option) for option in SHARED} == expected


@pytest.mark.parametrize("name", ["cxr_p", "manifest"])
def test_films_are_closed_unless_it_is_said_otherwise(name: str) -> None:
    module, own = MODULES[name][1], ALWAYS.get(name, {})
    assert [module(**own).open_data, module(**own, open_data=True).open_data] == [False, True]
    assert not any(MODULES[other][1]().open_data for other in ("egd_cxr", "reflacx", "mimic_cxr", "joint"))


def test_classes_of_own_films_arrive_together(read: Callable[..., Any]) -> None:
    call = read("manifest", class_column="kind", class_names=["a", "b"])
    assert (call.arguments["class_column"], call.arguments["class_names"]) == ("kind", ["a", "b"])


@pytest.mark.parametrize("name", ["reflacx", "manifest"])
@pytest.mark.parametrize("policy", ["separate", "mean_map", "random_reader"])
def test_the_policy_for_readers_is_kept_for_the_base(name: str, policy: str) -> None:
    assert MODULES[name][1](**ALWAYS.get(name, {}), readers=policy).reader_policy == policy


@pytest.mark.parametrize("name", ["reflacx", "joint", "manifest"])
def test_the_alignment_is_kept_for_the_base(name: str) -> None:
    module, own = MODULES[name][1], ALWAYS.get(name, {})
    aligned = module(**own, align="chest_box", chest_margin=0.25)
    assert [(data.align, data.chest_margin) for data in (module(**own), aligned)] == [
        ("film", 0.1),
        ("chest_box", 0.25),
    ]


def test_the_means_of_readers_are_made_of_both_sources(read: Callable[..., Any]) -> None:
    call = read("joint", readers="mean_map", gaze_weight="count", sigma=42.0, raw_step=3)
    for source in ("egd", "reflacx"):
        assert follow(call, source).name == "mean_readers"
        assert follow(call, f"{source}.weight") == "count"
    assert follow(call, "egd.table.sigma") == 42.0
    assert follow(call, "reflacx.table.raw_step") == 3


def test_only_the_chosen_sources_of_gaze_are_read(read: Callable[..., Any]) -> None:
    assert read("mimic_cxr", gaze_sources=None).arguments["gaze"] == {}
    gaze = read("mimic_cxr", gaze_sources=["reflacx"]).arguments["gaze"]
    assert {name: call.name for name, call in gaze.items()} == {"reflacx": "read_reflacx"}


def test_labels_of_other_spaces_are_not_asked_of_reflacx(read: Callable[..., Any]) -> None:
    call = read("joint", label_space="chexpert", labels=["Edema"])
    assert call.arguments["labels"] == ["Edema"]
    assert follow(call, "reflacx.labels") is None


@pytest.mark.parametrize("name", ["egd_cxr", "reflacx", "mimic_cxr", "joint"])
def test_the_note_for_reports_names_the_films_that_were_read(name: str) -> None:
    module = MODULES[name][1]
    assert module().data_note.endswith("MIMIC-CXR-JPG")
    assert module(films_format="dicom", intensity="window").data_note.endswith("MIMIC-CXR (DICOM)")
