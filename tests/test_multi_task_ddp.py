"""Two real processes: the contrastive loss sees the samples of both, and one step equals that of one process."""

import pytest
import torch

from tests.multi_task_step import step
from tests.small_ranks import small_ranks

pytestmark = [pytest.mark.ddp, pytest.mark.slow]


@pytest.mark.parametrize("contrastive", ["triplet", "supcon"])
def test_one_contrastive_step_on_two_processes_equals_the_step_on_their_samples_together(
    tmp_path_factory, tmp_path, contrastive
):
    step(str(tmp_path), 1, contrastive)
    two = small_ranks(tmp_path_factory) / "multi_task"
    start, alone, first, second = (
        torch.load(path / f"{contrastive}_{name}.pt", weights_only=True)
        for path, name in ((tmp_path, "start"), (tmp_path, "1_0"), (two, "2_0"), (two, "2_1"))
    )
    moved = max(float((alone[name] - value).abs().max()) for name, value in start.items() if value.is_floating_point())
    assert moved > 1e-3
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-4 * moved, msg=name)
