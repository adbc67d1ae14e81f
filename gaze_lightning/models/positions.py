"""Places inside a timm network."""

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def find_positions(net: Any, image: Tensor) -> dict[str, str]:
    """Name the maps that a network computes on its way to its features, from the image on.

    They are the levels of timm's ``feature_info``. The first is called ``stem``, the next ``stage1``, and so on. Where
    timm lists stages only (ConvNeXt, EfficientNet), ``stem`` is the layer before them. A level that is not one map of
    one module (HRNet) is left out. The last name stands for the network's features, also where a norm or a convolution
    follows the last stage.

    Args:
        net: a timm network, or one with ``feature_info`` and ``forward_features``; in eval mode.
        image: ``[B, C, H, W]``, any that the network takes.

    Returns:
        Name to the path of the module whose output it is; the path of the last one is empty: the features.
    """
    paths = [level["module"] for level in net.feature_info]
    if paths[0].startswith(("stages.", "blocks.")):
        paths.insert(0, "stem" if hasattr(net, "stem") else "bn1")
    names = ["stem", *(f"stage{k}" for k in range(1, len(paths)))]
    modules = dict(net.named_modules())
    inner = {name: path for name, path in zip(names[:-1], paths[:-1], strict=True) if path in modules}
    calls: Counter[str] = Counter()
    hooks = [modules[path].register_forward_hook(partial(_count, calls, name)) for name, path in inner.items()]
    net.forward_features(image)
    for hook in hooks:
        hook.remove()
    return {name: path for name, path in inner.items() if calls[name] == 1} | {names[-1]: ""}


def _count(calls: Counter[str], name: str, _module: nn.Module, _inputs: object, output: object) -> None:
    calls[name] += 1 if isinstance(output, Tensor) and output.dim() == 4 else 2
