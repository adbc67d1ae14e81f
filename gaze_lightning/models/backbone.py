"""Any timm CNN as a producer of un-pooled feature maps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import timm
import torch
from timm.models.densenet import DenseNet
from timm.models.vgg import VGG
from torch import Tensor, nn

from gaze_lightning.models.googlenet import GoogLeNet
from gaze_lightning.models.normalise import normalise_films
from gaze_lightning.models.positions import find_positions
from gaze_lightning.models.weights import LoadReport, load_weights

_WORKING = (
    "models that work: resnet18, resnet50, densenet121, densenet201, vgg16, googlenet, tf_efficientnetv2_s, "
    "convnext_tiny"
)


class Taps(NamedTuple):
    """Two maps at the end of a backbone.

    Attributes:
        raw: ``[B, C, h, w]`` before the last norm; of networks other than densenets it is ``features``.
        features: ``[B, C, h, w]``, what ``Backbone.forward`` returns.
    """

    raw: Tensor
    features: Tensor


class Backbone(nn.Module):
    """A timm convolutional network, or torchvision's GoogLeNet, without its pooling and classifier.

    Parameters that the features do not depend on would stop a training on several devices. The fully connected layers
    of VGGs are therefore left out; where a network has other such parameters (the norm of ConvNeXt's head), they stay
    under their names and are not trained.

    Args:
        name: a timm model name (``timm.list_models()``), or ``googlenet``.
        in_chans: channels of the network's first layer. The images have one channel; with 3 it is repeated.
        pretrained: ``False`` (random initialisation), ``True`` (timm's weights, of ``googlenet`` torchvision's, which
            expect ``mean`` and ``std`` 0.5; from the hub or its local cache) or the path of a weights file
            (``load_weights``).
        output_stride: input pixels per feature cell; only some architectures offer another value than 32. A VGG with
            16 has no last pooling, as for class activation maps (Zhou et al. 2016, arXiv 1512.04150).
        mean: subtracted from the image (range [0, 1]) before the first layer.
        std: the image is divided by it after ``mean`` is subtracted.
        divide_by_max: divide each image by its maximum first, as the released GG-CAM does (a black image stays black).
        channels_last: keep weights and features in the memory format that is faster on CPUs and tensor cores.

    Attributes:
        num_features: channels ``C`` of the feature map, as found by a dry forward.
        positions: where ``forward`` can change features, from ``stem`` to the last stage, whose output is the feature
            map itself (``find_positions``).

    Raises:
        ValueError: the model is unknown, does not offer ``output_stride``, or does not return an ``[B, C, h, w]`` map.
    """

    num_features: int
    positions: tuple[str, ...]

    def __init__(
        self,
        name: str,
        in_chans: int = 1,
        pretrained: bool | str = False,
        output_stride: int = 32,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        if in_chans not in (1, 3):
            raise ValueError(f"in_chans is {in_chans}: films have one channel, the network may have 1 or 3")
        if std <= 0:
            raise ValueError(f"std is {std}: it must be positive")
        self.name, self.in_chans, self.output_stride = name, in_chans, output_stride
        self.mean, self.std, self.divide_by_max, self.channels_last = mean, std, divide_by_max, channels_last
        self.net = self._create(pretrained=False).eval()
        self.num_features = self._dry_forward()
        self._paths = find_positions(self.net, torch.zeros(1, in_chans, 64, 128))
        self.positions = tuple(self._paths)
        self._freeze_unused()
        self.net.train()
        self.load_pretrained(pretrained)
        if channels_last:
            self.net = self.net.to(memory_format=torch.channels_last)

    def load_pretrained(self, pretrained: bool | str) -> LoadReport | None:
        """Fill the network with timm's weights (``True``) or those of a file; ``False`` changes nothing.

        Returns:
            Which keys were loaded; None for ``False``.

        Raises:
            ValueError: there are no weights for this model, or no key of the file matches.
            FileNotFoundError: there is no such file.
            ConnectionError: the weights are not in the local cache and the hub cannot be reached.
        """
        if isinstance(pretrained, str):
            return load_weights(self.net, pretrained)
        if pretrained:
            stored = self._create(pretrained=True).state_dict()
            self.net.load_state_dict(stored)
            return LoadReport(matched=tuple(stored), missing=(), unexpected=(), mismatched=())
        return None

    def forward(
        self, image: Tensor, position: str | None = None, change: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        """Compute features.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1].
            position: where ``change`` acts, one of ``positions``; None: nowhere.
            change: applied to the features ``[B, c, h, w]`` there; the network goes on with what it returns, of the
                same shape. None: nothing is changed.

        Returns:
            Features ``[B, num_features, h, w]``, about ``H / output_stride`` by ``W / output_stride``.

        Raises:
            ValueError: ``position`` is unknown.
        """
        if position is not None and position not in self.positions:
            raise ValueError(f"{self.name} has no position {position!r}; choose one of {', '.join(self.positions)}")
        if position is None or change is None:
            return self._features(image)
        if position == self.positions[-1]:
            return change(self._features(image))
        module = self.net.get_submodule(self._paths[position])
        hook = module.register_forward_hook(lambda _module, _inputs, output: change(output))
        try:
            return self._features(image)
        finally:
            hook.remove()

    def taps(self, image: Tensor) -> Taps:
        """Compute features and the map before the last norm.

        Of densenets ``raw`` is the output of the last dense block and ``features`` is ``ReLU(BN(raw))``.

        Args:
            image: float ``[B, 1, H, W]`` in [0, 1].

        Returns:
            Both maps, ``[B, num_features, h, w]`` each.
        """
        if isinstance(self.net, DenseNet):
            layers: Any = self.net.features
            raw: Tensor = layers[:-1](self._input(image))
            return Taps(raw, layers.norm5(raw))
        features = self(image)
        return Taps(features, features)

    def tapped_parts(self) -> list[nn.Module]:
        """Modules that ``taps`` calls one after the other; all of the network, or this module itself."""
        return list(self.net.features.children()) if isinstance(self.net, DenseNet) else [self]

    def normalise(self, image: Tensor) -> Tensor:
        """Shift and scale films ``[B, 1, H, W]`` in [0, 1] as for the first layer; still one channel."""
        return normalise_films(image, self.mean, self.std, self.divide_by_max)

    def _features(self, image: Tensor) -> Tensor:
        features: Tensor = self.net.forward_features(self._input(image))  # type: ignore[operator]
        return features

    def _input(self, image: Tensor) -> Tensor:
        image = self.normalise(image)
        if self.in_chans == 3:
            image = image.expand(-1, 3, -1, -1)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return image

    def _create(self, pretrained: bool) -> nn.Module:
        if self.name != "googlenet" and not timm.is_model(self.name):
            similar = timm.list_models(f"*{self.name.split('.')[0][:6]}*")[:8]
            raise ValueError(
                f"timm has no model {self.name!r}; similar names: {', '.join(similar) or 'none'}; {_WORKING}"
            )
        without_last_pool = self.output_stride == 16 and timm.models.is_model_in_modules(self.name, ["vgg"])
        plain = self.output_stride == 32 or without_last_pool
        options: dict[str, Any] = {} if plain else {"output_stride": self.output_stride}
        try:
            if self.name == "googlenet":
                return GoogLeNet(in_chans=self.in_chans, pretrained=pretrained, **options)
            net: nn.Module = timm.create_model(
                self.name, pretrained=pretrained, in_chans=self.in_chans, num_classes=0, global_pool="", **options
            )
        except (TypeError, AssertionError, NotImplementedError) as error:
            raise ValueError(
                f"{self.name} cannot be built with output_stride={self.output_stride} and in_chans={self.in_chans} "
                f"({type(error).__name__}: {error}); use output_stride: 32 or a ResNet / EfficientNet"
            ) from error
        except Exception as error:
            if not pretrained:
                raise
            if isinstance(error, RuntimeError) and "pretrained weights" in str(error).lower():
                raise ValueError(f"{self.name}: timm has no pretrained weights for this model; name a file") from error
            raise ConnectionError(
                f"{self.name}: the pretrained weights are not in the local cache and could not be fetched "
                f"({type(error).__name__}). Connect once, or give a file: pretrained: path.safetensors"
            ) from error
        if isinstance(net, VGG):
            net.add_module("pre_logits", nn.Identity())  # was fully connected: 120 M parameters of vgg16's classifier
        if without_last_pool:
            layers: Any = net.features
            layers[-1] = nn.Identity()  # as Zhou et al. (2016) make VGG's class activation maps
        return net

    def _freeze_unused(self) -> None:
        parameters = [parameter for parameter in self.net.parameters() if parameter.requires_grad]
        with torch.enable_grad():
            features: Tensor = self.net.forward_features(torch.zeros(1, self.in_chans, 64, 128))  # type: ignore[operator]
            gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)

    @torch.no_grad()
    def _dry_forward(self) -> int:
        """Two small images of different height and width: in a map ``[B, C, h, w]`` only ``h`` and ``w`` follow."""
        try:
            a, b = (
                tuple(self.net.forward_features(torch.zeros(1, self.in_chans, *size)).shape)  # type: ignore[operator]
                for size in ((64, 128), (128, 192))
            )
        except (AssertionError, RuntimeError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.name} has no feature map for images of any size ({type(error).__name__}: {error}); {_WORKING}"
            ) from error
        if len(a) != 4 or a[1] != b[1] or not (a[2] < b[2] and a[3] < b[3] and a[2] < a[3]):
            raise ValueError(
                f"{self.name} returns features of shape {a} for an image of 64 x 128: tokens, channels-last or pooled "
                f"features have no class activation map; {_WORKING}"
            )
        return int(a[1])
