"""What `benchmarks.ddp_scaling` compares with: a step of torch's own DDP, on both of two processes at once.

Run by torchrun with two processes; the first one prints seconds per step, with the exchange of gradients and without,
as JSON. Nothing of the library takes part but the network.
"""

import json
import sys
import time

import torch
import torch.distributed
from torch.nn.parallel import DistributedDataParallel

from gaze_lightning.models import Backbone, CAMClassifier

WARM_UP = 3


def seconds_per_step(network: torch.nn.Module, image: torch.Tensor, steps: int) -> float:
    """Forward, backward and Adam, on films ``[B, 1, H, W]``."""
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            torch.distributed.barrier()
            start = time.perf_counter()
        optimizer.zero_grad()
        network(image)[0].square().mean().backward()
        optimizer.step()
    return (time.perf_counter() - start) / steps


def main(backbone: str, side: int, batch: int, steps: int) -> None:
    """Measure in this process, which is one of two."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(0)
    network, image = CAMClassifier(Backbone(backbone, 1, False, 32), 3, "sum"), torch.rand(batch, 1, side, side)
    found = {"alone": seconds_per_step(network, image, steps)}
    found["joined"] = seconds_per_step(DistributedDataParallel(network), image, steps)
    if torch.distributed.get_rank() == 0:
        print(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
