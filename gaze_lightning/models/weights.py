"""Weights from files, with an account of what was loaded."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

_SHOWN = 5


@dataclass(frozen=True)
class LoadReport:
    """What became of the keys of a weights file.

    Attributes:
        matched: keys of the module that got the file's values.
        missing: keys of the module that the file does not have; they keep their values.
        unexpected: keys of the file that the module does not have (as in the file, with their prefix).
        mismatched: keys of the module whose shape differs in the file; they keep their values.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[str, ...]

    def __str__(self) -> str:
        parts = []
        for name in ("matched", "missing", "unexpected", "mismatched"):
            keys: tuple[str, ...] = getattr(self, name)
            shown = ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")
            parts.append(f"{len(keys)} {name}" + (f" ({shown})" if keys and name != "matched" else ""))
        return "; ".join(parts)


def load_weights(module: nn.Module, path: str | Path, prefix: str | None = None) -> LoadReport:
    """Copy the values of a weights file into ``module`` wherever name and shape agree.

    ``.safetensors`` files are flat; ``.pt``, ``.pth`` and ``.ckpt`` files are read with ``weights_only=True`` and may
    hold their tensors under ``state_dict`` or ``model``. A common prefix of the file's keys (``model.backbone.net.`` in
    checkpoints of this project, ``module.`` of DataParallel) is removed: of all prefixes with which at least one key
    equals one of the module's, the one with the most agreements in name and shape is used, the shortest of equals.

    Args:
        module: the module to fill, in place; untouched when an error is raised.
        path: the file.
        prefix: that of the file's keys, where it is known; None: found as above.

    Returns:
        The account; whoever loads prints it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the suffix is not one of the above, the file holds no tensors, or not a single key matches.
    """
    path = Path(path)
    tensors = _read(path)
    own = module.state_dict()
    if prefix is None:
        prefix = _best_prefix(tensors, own)
    inside = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
    matched = [key for key in own if key in inside and inside[key].shape == own[key].shape]
    mismatched = [key for key in own if key in inside and inside[key].shape != own[key].shape]
    report = LoadReport(
        matched=tuple(matched),
        missing=tuple(key for key in own if key not in inside),
        unexpected=tuple(key for key in tensors if not key.startswith(prefix) or key[len(prefix) :] not in own),
        mismatched=tuple(mismatched),
    )
    if not matched:
        raise ValueError(
            f"{path}: none of its {len(tensors)} tensors fits the {len(own)} of {type(module).__name__} ({report}); "
            "these weights belong to another architecture"
        )
    module.load_state_dict({key: inside[key] for key in matched}, strict=False)
    return report


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file (pretrained: true | false | path of a weights file)")
    if path.suffix == ".safetensors":
        return dict(load_file(path))
    if path.suffix not in {".pt", ".pth", ".ckpt"}:
        raise ValueError(f"{path}: weights are read from .safetensors, .pt, .pth or .ckpt files")
    content = torch.load(path, map_location="cpu", weights_only=True)
    for container in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
    tensors = (
        {key: value for key, value in content.items() if torch.is_tensor(value)} if isinstance(content, dict) else {}
    )
    if not tensors:
        raise ValueError(f"{path}: holds no tensors, neither at its top nor under 'state_dict' or 'model'")
    return tensors


def _best_prefix(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    prefixes = {""}
    for key in tensors:
        parts = key.split(".")
        prefixes |= {".".join(parts[:n]) + "." for n in range(1, len(parts)) if ".".join(parts[n:]) in own}

    def agreements(prefix: str) -> int:
        return sum(prefix + key in tensors and tensors[prefix + key].shape == own[key].shape for key in own)

    return min(prefixes, key=lambda prefix: (-agreements(prefix), len(prefix), prefix))
