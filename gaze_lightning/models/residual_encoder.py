"""The saliency encoder of the dual-encoder UNet."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from gaze_lightning.models.residual_se import ResidualSE


class ResidualEncoder(nn.Module):
    """Blocks ``ResidualSE`` with a 2x2 max-pool between them, from one channel (encoder B of arXiv 2403.16970).

    Args:
        widths: channels of the blocks, the shallowest first.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualSE(a, b) for a, b in zip([1, *widths], widths, strict=False))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the maps of all blocks.

        Args:
            image: ``[B, 1, H, W]``, normalised.

        Returns:
            One map per block, the shallowest first: ``[B, widths[i], H // 2^i, W // 2^i]``.
        """
        maps = [self.blocks[0](image)]
        for block in self.blocks[1:]:
            maps.append(block(F.max_pool2d(maps[-1], kernel_size=2)))
        return maps
