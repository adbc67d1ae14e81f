"""Global attention from the images of the batch."""

import torch
from torch import Tensor, nn

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.models.anchor_images import standardise
from gaze_lightning.models.pixel_classifier import PixelClassifier, PixelClassifierKind
from gaze_lightning.models.shared_map import SharedMap


class BatchStackAttention(SharedMap):
    """An importance map by a pixel classifier on the images of the training batch.

    The features of a pixel are the standardised intensities that the ``B`` images of the batch have there, in their
    order. This is how the one third-party description of global attention (arXiv 2007.15897) goes. The map is shared by
    the images of a batch only: it depends on which images these are and on their order, and the batch size is fixed.
    Eval mode therefore uses a stored map: the mean of the training maps since ``start_epoch``.

    In distributed training every process has a stack, and so a map, of its own. ``map_sum`` and ``map_count`` are what
    to add up over the processes before ``store_map``. (They are plain tensors: buffers would be overwritten by those of
    the first process at every step.)

    Args:
        batch_size: ``B``, of one process.
        size: ``(H, W)``, pixels.
        pixel_classifier: ``"linear"`` or ``"conv"``, see ``PixelClassifier``.
        start: bias of the last layer at the start (0: ``a`` = 0.5 on average; 2: 0.88).
        rescale: divide each map by its mean.
        seed: of the classifier's first weights.

    Attributes:
        map_sum: float32 ``[1, 1, H, W]``, sum of the training maps since ``start_epoch``.
        map_count: int64 scalar, their number.
    """

    map_sum: Tensor
    map_count: Tensor

    def __init__(
        self,
        batch_size: int,
        size: tuple[int, int],
        pixel_classifier: PixelClassifierKind = "linear",
        start: float = 0.0,
        rescale: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(size, start, rescale)
        self.batch_size = batch_size
        self.pixels = PixelClassifier(batch_size, pixel_classifier, start, seed)
        self.start_epoch()
        self.register_load_state_dict_post_hook(_forget)  # type: ignore[no-untyped-call]

    def start_epoch(self) -> None:
        """Forget the training maps so far; the stored map stays."""
        self.map_sum = torch.zeros_like(self.stored_map)
        self.map_count = torch.zeros((), dtype=torch.int64, device=self.stored_map.device)

    def logits(self) -> Tensor:
        """There are none without a batch.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(
            "the map of mode batch_stack exists for a training batch only and cannot be set beforehand: "
            "use mode anchor_set"
        )

    def current_map(self) -> Tensor:
        """Mean of the training maps since ``start_epoch``, the stored map if there is none; without gradient."""
        if self.map_count == 0:
            return self.stored_map
        return (self.map_sum / self.map_count).to(self.stored_map.device)

    def training_map(self, image: Tensor) -> Tensor:
        """The map ``[1, 1, H, W]`` of this batch, with gradient.

        Args:
            image: float ``[B, 1, H, W]``.

        Raises:
            ConfigurationError: the batch has another size than the module.
            ValueError: all images are constant.
        """
        if len(image) != self.batch_size:
            raise ConfigurationError(
                f"a training batch has {len(image)} images, mode batch_stack was built for {self.batch_size}: its "
                "batch size is part of the weights; keep the batch_size of each process, and give no smaller last batch"
            )
        a: Tensor = self.importance(self.pixels(standardise(image).transpose(0, 1)))
        self.map_sum = self.map_sum.to(a.device) + a.detach()
        self.map_count = self.map_count.to(a.device) + 1
        return a


def _forget(module: nn.Module, incompatible_keys: object) -> None:
    assert isinstance(module, BatchStackAttention)
    module.start_epoch()  # the maps so far are not those of the weights just loaded
