"""What all ways to one importance map for all images have in common."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gaze_lightning.errors import ConfigurationError


class SharedMap(nn.Module, ABC):
    """One importance map ``a`` of the pixels for all images.

    In training the map follows from the parameters, with gradient; in eval mode the stored map is used, so that
    prediction depends on nothing but the checkpoint. Saving (``state_dict``) stores the map of the present parameters
    first, wherever it can be computed. Computed in float32 also under autocast.

    Args:
        size: ``(H, W)`` of the images, pixels.
        start: logit of the stored map before anything is trained (0: ``a`` = 0.5; 2: 0.88).
        rescale: divide the map by its mean, so that films keep their level; else it lies in (0, 1).

    Attributes:
        stored_map: persistent buffer, float32 ``[1, 1, H, W]``.
        frozen: the stored map is used in training too.
    """

    stored_map: Tensor

    def __init__(self, size: tuple[int, int], start: float, rescale: bool) -> None:
        super().__init__()
        self.rescale, self.frozen = rescale, False
        self.register_buffer("stored_map", self.importance(torch.full((1, 1, *size), float(start))))
        self.register_state_dict_pre_hook(_store_first)  # type: ignore[no-untyped-call]

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)``, pixels."""
        height, width = self.stored_map.shape[-2:]
        return height, width

    @property
    def computable(self) -> bool:
        """Whether all is there that the current map needs."""
        return True

    @abstractmethod
    def logits(self) -> Tensor:
        """Logits ``[1, 1, H, W]`` of the present parameters, with gradient."""

    def importance(self, logits: Tensor) -> Tensor:
        """``sigmoid(logits)``, divided by its mean with ``rescale``; same shape."""
        a = torch.sigmoid(logits)
        return a / a.mean() if self.rescale else a

    def current_map(self) -> Tensor:
        """The map ``[1, 1, H, W]`` of the present parameters, with gradient."""
        return self.importance(self.logits())

    def training_map(self, image: Tensor) -> Tensor:
        """The map ``[1, 1, H, W]`` of this training step, with gradient; ``image`` is float ``[B, 1, H, W]``."""
        return self.current_map()

    @torch.no_grad()
    def store_map(self) -> None:
        """Store the current map; a frozen one stays as it is."""
        if not self.frozen:
            self.stored_map.copy_(self.current_map())

    def freeze(self) -> None:
        """Use the stored map from now on, in training too; call ``store_map`` before if it is to be the present one.

        The parameters then get gradients of exactly zero. An optimiser that remembers earlier gradients still moves
        them, unless its learning rate for them is 0 or their gradients are removed.
        """
        self.frozen = True

    def forward(self, image: Tensor) -> Tensor:
        """The map for these images.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1].

        Returns:
            ``[1, 1, H, W]``, not negative: with gradient in training, the stored one in eval mode.

        Raises:
            ConfigurationError: the images have another size than the map.
        """
        if image.shape[-2:] != self.stored_map.shape[-2:]:
            raise ConfigurationError(
                f"the images are {tuple(image.shape[-2:])} pixels, the importance map {self.size}: one map belongs to "
                "one image size; keep image_size the same in all stages and as it was in training"
            )
        if not self.training:
            return self.stored_map
        if self.frozen:  # distributed training wants a gradient, be it zero, for every parameter
            return self.stored_map + 0 * torch.stack([p.sum() for p in self.parameters()]).sum()
        return self.training_map(image)


def _store_first(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    assert isinstance(module, SharedMap)
    if module.computable:
        module.store_map()
