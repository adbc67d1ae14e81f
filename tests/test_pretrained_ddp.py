"""Two real processes that read their weights from files."""

import pytest
import torch

from tests.small_ranks import small_ranks

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


def test_where_the_files_differ_all_processes_start_from_that_of_the_first(tmp_path_factory):
    folder = small_ranks(tmp_path_factory) / "pretrained"
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert set(first["model.head.bias"].flatten().tolist()) == {1.0}
    assert all(torch.equal(value, second[name]) for name, value in first.items())
