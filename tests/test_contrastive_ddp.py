"""Two real processes: a step of each method equals that of one process on their films together; so do its values."""

import pytest
import torch

from tests.contrastive_data import METHODS, collate, films, make_task
from tests.contrastive_steps import steps
from tests.small_ranks import small_ranks
from tests.two_processes import once

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    two = small_ranks(tmp_path_factory) / "contrastive"
    once(tmp_path_factory, "contrastive_alone", lambda _: steps(str(two), 1))
    return two


@pytest.mark.parametrize(("name", "normalise"), [("MoCo", "per_anchor"), *((name, "global") for name in METHODS)])
def test_two_processes_do_what_one_does_with_their_films_together(folder, name, normalise):
    alone, first, second = (
        torch.load(folder / f"{name}_{normalise}_{which}.pt", weights_only=True) for which in ("1_0", "2_0", "2_1")
    )
    floats = [key for key, value in alone["end"].items() if value.is_floating_point() and "running" not in key]
    step = max(float((alone["end"][key] - alone["start"][key]).abs().max()) for key in floats)
    assert step > 1e-3
    for key in floats:
        assert torch.equal(first["end"][key], second["end"][key]), key
        torch.testing.assert_close(first["end"][key], alone["end"][key], rtol=0, atol=1e-6, msg=key)
    if name == "MoCo":
        assert alone["end"]["queue.identities"][:, 1].tolist() == [10, 11, -1, -1, -1, -1, 6, 7, 8, 9]
        for part in ("identities", "pointer", "count"):
            assert torch.equal(first["end"][f"queue.{part}"], alone["end"][f"queue.{part}"])
            assert torch.equal(second["end"][f"queue.{part}"], alone["end"][f"queue.{part}"])
    for key in ("train/loss", "train/gaze_pairs", "train/alignment"):
        assert float(first["values"][key]) == pytest.approx(float(alone["values"][key]), abs=1e-5), key
    if normalise == "global":
        assert float(alone["values"]["train/gaze_pairs"]) > 0


@pytest.mark.parametrize("name", list(METHODS))
def test_values_of_validation_and_test_depend_on_no_number_of_processes(folder, name):
    alone, first, second = (
        torch.load(folder / f"{name}_global_{which}.pt", weights_only=True) for which in ("1_0", "2_0", "2_1")
    )
    values = [key for key in alone["values"] if key.startswith("val/")]
    assert len(values) == 5
    for key in values:
        assert float(first["values"][key]) == pytest.approx(float(alone["values"][key]), abs=1e-4), key
    both = first["outputs"] | second["outputs"]
    assert len(first["outputs"]) == 3
    assert len(second["outputs"]) == 2
    assert both.keys() == alone["outputs"].keys()
    for key, expected in alone["outputs"].items():
        torch.testing.assert_close(both[key], expected, rtol=0, atol=1e-3, msg=key)


def test_each_process_makes_keys_of_a_random_part_of_all_films(folder):
    alone, first, second = (
        torch.load(folder / f"encoded_{which}.pt", weights_only=True).flatten(0, 1) for which in ("1_0", "2_0", "2_1")
    )
    whole = collate(films("train", 16))["second_view"]
    for step in (0, 1):  # of eight films
        own = whole[8 * step : 8 * step + 8]
        parts = [alone[8 * step : 8 * step + 8], *(part[4 * step : 4 * step + 4] for part in (first, second))]
        places = [[next(j for j in range(8) if torch.equal(own[j], film)) for film in part] for part in parts]
        assert sorted(places[0]) == list(range(8))
        assert places[0] == places[1] + places[2] != list(range(8))
        assert set(places[1]) not in ({0, 1, 2, 3}, {4, 5, 6, 7})


def test_keys_of_all_processes_are_those_of_groups_of_the_shuffled_films_of_all(folder):
    target = make_task("MoCo").target
    assert target.training
    images = collate(films("train", 8))["second_view"]  # those of the first process, then those of the second
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(8, 6)
    for group in order.split(2):  # two groups of two films in each process
        expected[group] = torch.nn.functional.normalize(target(images[group]).projection, dim=1)
    for rank in (0, 1):
        keys = torch.load(folder / f"keys_{rank}.pt", weights_only=True)
        torch.testing.assert_close(keys, expected, rtol=0, atol=1e-5)
