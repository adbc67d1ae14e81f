"""Smooth maps, statistics of films and mean gaze that no film was needed for."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from gaze_lightning.protocols import FilmStatistics

H, W = 24, 20


def smooth(seed, sigma=3.0):
    values = gaussian_filter(np.random.default_rng(seed).random((H, W)), sigma)
    return torch.from_numpy((values - values.min()) / (values.max() - values.min())).float()


def statistics(full=False):
    coverage = torch.ones(H, W)
    if not full:
        coverage[:2] = 0.4
        coverage[-2:] = 0.5
    return FilmStatistics(smooth(1), 0.5, coverage, 12)


def gaze():
    density = smooth(2) ** 4
    return density / density.sum()
