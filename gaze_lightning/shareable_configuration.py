"""What of a resolved configuration may leave the machine."""

import re
from collections.abc import Mapping
from typing import Any

LOCAL = "(local)"
"""Stands for a value that stays on the machine."""

_SECRET = re.compile(r"(?i)(token|secret|passw|credential|api_?key|(^|_)key$)")
_FREE_TEXT = re.compile(r"(?i)(acknowledgement|notes?)$")  # may name people
_PLACE = re.compile(r"(?i)(^|_)(root|roots|dir|dirpath|path|paths|file|files|folder|runs|csv|pretrained)$")
_METRIC = re.compile(r"(train|val|test|best)(/\w+)+")
_PATH = re.compile(
    r"(?i)[/\\~]|\.(ckpt|pt|pth|bin|safetensors|csv|tsv|xlsx?|json|ya?ml|txt|log|np[yz]|h5|parquet|pkl|db|zip|gz|tar"
    r"|jpe?g|png|dcm|py)$"
)
_ID = re.compile(r"\d{6}|[0-9a-f]{8}-[0-9a-f]{4,8}-", re.IGNORECASE)  # of patients, studies and films
_LONGEST = 200


def shareable_configuration(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten a configuration and keep what describes the method.

    Paths, of this machine or relative, and texts that look like an id of a patient, study or film become ``(local)``;
    secrets and free texts are left out. Names of metrics (``val/auroc_macro``) and of classes stay.

    Args:
        configuration: nested; numbers, truth values, texts, None, lists and mappings of such.

    Returns:
        Dotted name -> value, the names of the command line (``model.init_args.lr``). Lists stay lists.
    """
    flat: dict[str, Any] = {}
    for key, value in _kept(configuration).items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{rest}": inner for rest, inner in shareable_configuration(value).items()}
        else:
            flat[key] = _plain(key, value)
    return flat


def stays_here(key: str, value: Any) -> bool:
    """Whether `shareable_configuration` leaves out or changes a value, or a part of it.

    Args:
        key: dotted name.
        value: of what a configuration holds.
    """
    if isinstance(value, Mapping) and value:
        return any(stays_here(f"{key}.{name}", inner) for name, inner in value.items())
    nested = value
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return shareable_configuration(nested) != {key: value}


def looks_like_id(text: str) -> bool:
    """Whether a text may hold the id of a patient, study or film."""
    return _ID.search(text) is not None


def _kept(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    named = {str(key): value for key, value in mapping.items()}
    return {
        key: value
        for key, value in named.items()
        if not (_SECRET.search(key) or _FREE_TEXT.search(key)) and _text(key) == key
    }


def _plain(key: str, value: Any) -> Any:
    """A value that JSON can hold, without what stays here; ``key`` is the last part of its name."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        place = bool(_PLACE.search(key)) and key != "class_path"
        return LOCAL if place and value else _text(value)
    if isinstance(value, Mapping):
        return {name: _plain(name, inner) for name, inner in _kept(value).items()}
    if isinstance(value, list | tuple):
        return [_plain(key, inner) for inner in value]
    return LOCAL


def _text(value: str) -> str:
    if _METRIC.fullmatch(value):
        return value
    return LOCAL if _PATH.search(value) or looks_like_id(value) or len(value) > _LONGEST else value
