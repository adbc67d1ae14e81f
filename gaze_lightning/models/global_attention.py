"""Global attention from a fixed set of reference images."""

from typing import cast

from torch import Tensor

from gaze_lightning.models.pixel_classifier import PixelClassifier, PixelClassifierKind
from gaze_lightning.models.shared_map import SharedMap


class GlobalAttention(SharedMap):
    """One importance map for all images, by a pixel classifier on the intensities of reference images.

    With reference images (anchors) ``R_1..R_n`` and a pixel classifier ``g``::

        a(u, v) = sigmoid(g(R_1(u, v), ..., R_n(u, v)))

    Global spatial attention (Xu et al., arXiv 2007.15897) as far as its abstract goes; the sigmoid and all layers are a
    reconstruction. Linear ``g``: the logits are a learned linear combination of the anchors. Train ``g`` through the
    loss of the images alone.

    The anchors are a constant buffer that no checkpoint contains (films stay private, checkpoints small): 4 bytes per
    pixel and anchor, 51 MB for 256 of 224 x 224. Give them with ``set_anchors`` before training; prediction needs none.

    A fast ``conv`` classifier can close the map over the decisive region before the network has learnt to use it, and
    does not reopen it (synthetic films, learning rate 0.01: 2 of 8 seeds from ``start`` 0, none from 2).

    Args:
        n_images: number ``n`` of anchors.
        size: ``(H, W)``, pixels.
        pixel_classifier: ``"linear"`` or ``"conv"``, see ``PixelClassifier``.
        start: bias of the last layer at the start (0: ``a`` = 0.5 on average; 2: 0.88).
        rescale: divide the map by its mean.
        seed: of the classifier's first weights.
    """

    anchors: Tensor | None

    def __init__(
        self,
        n_images: int,
        size: tuple[int, int],
        pixel_classifier: PixelClassifierKind = "linear",
        start: float = 0.0,
        rescale: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(size, start, rescale)
        self.n_images = n_images
        self.pixels = PixelClassifier(n_images, pixel_classifier, start, seed)
        self.register_buffer("anchors", None, persistent=False)

    @property
    def computable(self) -> bool:
        """Whether the anchors are there."""
        return self.anchors is not None

    def set_anchors(self, anchors: Tensor | None) -> None:
        """Give the reference images; they are copied and get no gradient.

        Args:
            anchors: standardised, float ``[n_images, 1, H, W]``; None: take them away, the stored map stays.

        Raises:
            ValueError: another number or size.
        """
        if anchors is None:
            self.anchors = None
            return
        expected = (self.n_images, 1, *self.size)
        if tuple(anchors.shape) != expected:
            raise ValueError(f"the anchors have shape {tuple(anchors.shape)}, expected {expected}")
        self.anchors = anchors.detach().to(self.stored_map, copy=True).transpose(0, 1).contiguous()

    def logits(self) -> Tensor:
        """Logits ``[1, 1, H, W]`` of the present parameters, with gradient.

        Raises:
            RuntimeError: there are no anchors.
        """
        if self.anchors is None:
            raise RuntimeError("the importance map cannot be computed without its anchors: call set_anchors first")
        return cast(Tensor, self.pixels(self.anchors))
