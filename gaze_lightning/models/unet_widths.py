"""Channels of the UNets."""

_PUBLISHED = (64, 128, 256, 512, 1024)


def unet_widths(width: float) -> tuple[int, ...]:
    """Channels of the five levels of a UNet, the shallowest first: 64 to 1024 times ``width``, at least one each.

    Raises:
        ValueError: ``width`` is not positive.
    """
    if not width > 0:
        raise ValueError(f"width is {width}: it is the factor of all channels, 1 as published, 0.125 for a demo")
    return tuple(max(1, round(channels * width)) for channels in _PUBLISHED)
