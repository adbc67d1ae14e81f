"""A classifier on the means of several feature maps."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gaze_lightning.gaze import cell_overlap


class FusionHead(nn.Module):
    """Means of all maps, concatenated, into two linear layers.

    With ``g`` the means over all pixels of the maps' channels, concatenated::

        z = W_2 ReLU(dropout(W_1 g + b_1)) + b_2

    The class head of MT-UNet and of the dual-encoder UNet of arXiv 2403.16970 (official code; width and dropout agree
    with the paper's figure). Computed in float32 also under autocast.

    Args:
        channels: channels of the maps, in their order.
        num_classes: number ``K`` of classes.
        hidden: width of the hidden layer.
        dropout: probability, on the hidden layer.

    Raises:
        ValueError: there is no map or no class.
    """

    def __init__(self, channels: Sequence[int], num_classes: int, hidden: int = 64, dropout: float = 0.25) -> None:
        super().__init__()
        if not channels or num_classes < 1:
            raise ValueError(f"{len(channels)} maps and {num_classes} classes: a class head needs one of each at least")
        self.hidden = nn.Linear(sum(channels), hidden)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Classify.

        Args:
            maps: one ``[B, channels[i], h_i, w_i]`` per entry of ``channels``; sizes may differ.

        Returns:
            Logits ``[B, K]``, float32.
        """
        with torch.autocast(device_type=maps[0].device.type, enabled=False):
            logits: Tensor = self.output(F.relu(self.dropout(self.hidden(_means(maps)))))
            return logits

    @torch.no_grad()
    def class_maps(self, maps: Sequence[Tensor]) -> Tensor:
        """What each place adds to the logits.

        The head is linear as long as the same hidden units are active. With ``a_j`` = 1 where
        ``(W_1 g + b_1)_j > 0``, else 0::

            M_c(u, v) = sum_k F_k(u, v) * sum_j W_2cj a_j W_1jk        z_c = mean_uv M_c + W_2 (a * b_1) + b_2

        over the channels ``k`` of all maps ``F``: the class activation map of a linear head, and what Grad-CAM without
        its ReLU gives, in closed form. Dropout is left out.

        Args:
            maps: as for ``forward``, the coarsest first.

        Returns:
            float32 ``[B, K, h, w]`` on the grid of the first map, without gradient. The parts of the others are pooled
            to it by area, so that their means are kept for any pair of sizes.
        """
        with torch.autocast(device_type=maps[0].device.type, enabled=False):
            active = (self.hidden(_means(maps)) > 0).float()
            jacobian = torch.einsum("cj,bj,jk->bck", self.output.weight, active, self.hidden.weight)
            parts = torch.split(jacobian, [m.shape[1] for m in maps], dim=2)
            height, width = maps[0].shape[-2:]
            total = torch.einsum("bck,bkhw->bchw", parts[0], maps[0].float())
            for part, finer in zip(parts[1:], maps[1:], strict=True):
                own = torch.einsum("bck,bkhw->bchw", part, finer.float())
                rows, columns = (
                    (cell_overlap(pixels, cells, own.device) * cells / pixels).to(own.dtype)
                    for pixels, cells in zip(own.shape[2:], (height, width), strict=True)
                )
                total = total + rows @ own @ columns.T
            return total


def _means(maps: Sequence[Tensor]) -> Tensor:
    return torch.cat([m.mean(dim=(2, 3), dtype=torch.float32) for m in maps], dim=1)
