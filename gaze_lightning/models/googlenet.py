"""GoogLeNet without its classifier."""

from typing import Any

from timm.models import adapt_input_conv
from torch import Tensor, nn
from torchvision import models  # type: ignore[import-untyped]

_UNUSED = ("aux1", "aux2", "avgpool", "dropout", "fc")


class GoogLeNet(nn.Sequential):
    """torchvision's GoogLeNet (Szegedy et al. 2015) up to its last map: no auxiliary heads, pooling or classifier.

    timm has no GoogLeNet. The names of layers and parameters are torchvision's, and so is the initialisation: normal
    with standard deviation 0.01, truncated at 2. The ImageNet weights expect images ``(x - 0.5) / 0.5`` with ``x`` in
    [0, 1]. As in torchvision, the kernels of the "5x5" branches are 3x3.

    Args:
        in_chans: channels of the images.
        pretrained: torchvision's ImageNet weights, from its local cache or the web. With another number of channels
            than three the first kernels are adapted as timm does it: for one channel, summed over the three.

    Attributes:
        feature_info: the last module, stride and channels of each level, as timm's networks have it.

    Raises:
        OSError: the weights are not in the cache and cannot be fetched.
    """

    def __init__(self, in_chans: int = 3, pretrained: bool = False) -> None:
        source: Any = models.googlenet(weights=None, aux_logits=False, init_weights=True)
        super().__init__()
        for name, layer in source.named_children():
            if name not in _UNUSED:
                self.add_module(name, layer)
        if in_chans != 3:
            first = nn.Conv2d(in_chans, 64, kernel_size=7, stride=2, padding=3, bias=False)
            nn.init.trunc_normal_(first.weight, mean=0.0, std=0.01, a=-2, b=2)
            source.conv1.conv = first
        self.feature_info = [
            {"module": "conv1", "reduction": 2, "num_chs": 64},
            {"module": "conv3", "reduction": 4, "num_chs": 192},
            {"module": "inception3b", "reduction": 8, "num_chs": 480},
            {"module": "inception4e", "reduction": 16, "num_chs": 832},
            {"module": "inception5b", "reduction": 32, "num_chs": 1024},
        ]
        if pretrained:
            stored = dict(models.GoogLeNet_Weights.IMAGENET1K_V1.get_state_dict(progress=False, check_hash=True))
            stored["conv1.conv.weight"] = adapt_input_conv(in_chans, stored["conv1.conv.weight"])
            self.load_state_dict({key: stored[key] for key in self.state_dict()})

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features.

        Args:
            image: ``[B, in_chans, H, W]``.

        Returns:
            ``[B, 1024, h, w]``, stride 32: about ``H / 32`` by ``W / 32``.
        """
        features: Tensor = self(image)
        return features
