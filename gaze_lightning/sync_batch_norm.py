"""Batch norm over the batches of all processes."""

from pytorch_lightning.plugins import LayerSync
from timm.layers import convert_sync_batchnorm  # type: ignore[attr-defined]
from torch import nn


class SyncBatchNorm(LayerSync):
    """Replaces batch norm by its synchronised kind, as the trainer's ``sync_batchnorm`` does, also in networks of timm.

    Torch's own conversion drops the activation that timm's DenseNets and EfficientNets have within their norms.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Called by the strategy before it wraps the model."""
        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def revert(self, model: nn.Module) -> nn.Module:
        """Called by the strategy at the end: what was converted stays; it computes the same in evaluation."""
        return model
