import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from data_modules.augment import Augmentation, Augmenter
from gaze_lightning.gaze import Fixations
from gaze_lightning.models import warp

IDENTITY = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def flip(width):
    return torch.tensor([[[-1.0, 0, width], [0, 1, 0]]])


def shift(x, y):
    return torch.tensor([[[1.0, 0, x], [0, 1, y]]])


def turn(degrees, scale, x, y):
    c, s = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return torch.tensor([[[c, -s, x], [s, c, y]]])


@pytest.mark.parametrize("size", [(224, 224), (61, 40)])
def test_the_identity_changes_nothing(size):
    x = random(2, 3, *size)
    torch.testing.assert_close(warp(x, IDENTITY.expand(2, -1, -1), size), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(224, 224), (61, 40)])
def test_flips_are_exact(size):
    x = random(2, 3, *size)
    torch.testing.assert_close(warp(x, flip(size[1]).expand(2, -1, -1), size), x.flip(-1), atol=1e-6, rtol=0)


@given(st.integers(-45, 45), st.integers(-70, 70))
@settings(deadline=None, max_examples=40)
def test_whole_pixel_shifts_are_exact_and_leave_zeros(dx, dy):
    x = random(1, 2, 61, 40)
    expected = torch.zeros_like(x)
    for v in range(61):
        for u in range(40):
            if 0 <= v - dy < 61 and 0 <= u - dx < 40:
                expected[..., v, u] = x[..., v - dy, u - dx]
    torch.testing.assert_close(warp(x, shift(dx, dy), (61, 40)), expected, atol=1e-6, rtol=0)


def literal(x, matrix, canvas):
    """Every pixel of the result asks where it came from and mixes the four pixels around."""
    H, W = x.shape[-2:]
    inverse = np.linalg.inv(np.vstack([matrix.double().numpy(), [0, 0, 1]]))
    result = np.zeros(x.shape)
    for v in range(H):
        for u in range(W):
            px, py, _ = inverse @ [(u + 0.5) * canvas[1] / W, (v + 0.5) * canvas[0] / H, 1]
            column, row = px * W / canvas[1] - 0.5, py * H / canvas[0] - 0.5
            for i in (math.floor(row), math.floor(row) + 1):
                for j in (math.floor(column), math.floor(column) + 1):
                    if 0 <= i < H and 0 <= j < W:
                        share = (1 - abs(row - i)) * (1 - abs(column - j))
                        result[:, v, u] += share * x[:, i, j].double().numpy()
    return torch.from_numpy(result).float()


@given(
    st.floats(-180, 180), st.floats(0.4, 2), st.floats(-20, 60), st.floats(-20, 60), st.sampled_from([(20, 31), (5, 8)])
)
@settings(deadline=None, max_examples=25)
def test_every_pixel_is_looked_up_where_it_came_from(degrees, scale, x, y, grid):
    canvas, features = (20, 31), random(2, 3, *grid)
    matrix = torch.cat([turn(degrees, scale, x, y), turn(-degrees, 1 / scale, y, x)])
    found = warp(features, matrix, canvas)
    for n in range(2):
        torch.testing.assert_close(found[n], literal(features[n], matrix[n], canvas), atol=1e-5, rtol=0)


def test_warp_agrees_with_grid_sample_in_float64():
    canvas, x, matrix = (30, 22), random(2, 3, 30, 22).double(), torch.cat([turn(7, 1.1, 3, -2), turn(-20, 0.7, 8, 5)])
    lifted = torch.cat([matrix.double(), torch.tensor([[[0.0, 0, 1]]]).double().expand(2, -1, -1)], dim=1)
    to_unit = torch.tensor([[2 / 22, 0, -1], [0, 2 / 30, -1], [0, 0, 1]]).double()
    theta = (to_unit @ torch.linalg.inv(lifted) @ torch.linalg.inv(to_unit))[:, :2]
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    torch.testing.assert_close(warp(x, matrix, canvas), F.grid_sample(x, grid, align_corners=False), atol=1e-6, rtol=0)


def test_a_flip_of_a_product_is_the_product_of_the_flips():
    x, a = random(2, 1, 24, 18), random(1, 1, 24, 18, seed=1)
    matrix = flip(18).expand(2, -1, -1)
    torch.testing.assert_close(warp(a * x, matrix, (24, 18)), warp(x, matrix, (24, 18)) * a.flip(-1))


def test_a_rotation_of_a_product_is_not_the_product_of_the_rotations():
    x, a = random(1, 1, 24, 18), random(1, 1, 24, 18, seed=1)
    matrix = turn(8, 1, 2, -1)
    products = warp(x, matrix, (24, 18)) * warp(a, matrix, (24, 18))
    assert (warp(a * x, matrix, (24, 18)) - products).abs().max() > 0.05


def test_warp_is_linear():
    x, y, matrix = random(1, 2, 12, 9), random(1, 2, 12, 9, seed=1), turn(10, 1.1, 1, 0)
    together = warp(2 * x - 3 * y, matrix, (12, 9))
    torch.testing.assert_close(together, 2 * warp(x, matrix, (12, 9)) - 3 * warp(y, matrix, (12, 9)), atol=1e-5, rtol=0)


def test_features_move_like_the_image_that_they_cover():
    coarse = random(1, 4, 6, 5)
    image = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    moved = warp(coarse, shift(16, -8), (48, 40))
    expected = warp(image, shift(16, -8), (48, 40))[..., ::8, ::8]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


def test_the_gradient_is_that_of_numbers():
    x = random(2, 2, 5, 6).double().requires_grad_()
    matrix = torch.cat([turn(12, 1.2, 1, -2), turn(-30, 0.8, 4, 1)])
    assert torch.autograd.gradcheck(lambda t: warp(t, matrix, (10, 9)), x)


def test_half_precision_keeps_its_type():
    x = random(1, 2, 8, 8).bfloat16()
    torch.testing.assert_close(warp(x, IDENTITY, (8, 8)), x)


def matrix_of(augmenter, image, epoch, index):
    """The affine, from what the augmentation did to three fixations."""
    before = np.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    one = np.ones(3)
    points = Fixations(before[:, 0], before[:, 1], one, one, one, np.arange(3.0), None)
    height, width = image.shape
    done = augmenter(image, points, (0.0, 0.0, float(width), float(height)), epoch, index)
    after = np.stack([done.fixations.x, done.fixations.y], axis=1)
    return torch.from_numpy(np.linalg.solve(np.column_stack([before, one]), after).T)[None], done.image


@pytest.mark.parametrize("size", [(96, 80), (224, 224)])
@pytest.mark.parametrize("index", range(4))
def test_warp_does_what_the_augmentation_does(size, index):
    options = Augmentation(rotate=10, scale=0.15, translate=0.08, flip=0.5)
    smooth = F.interpolate(random(1, 1, 12, 10, seed=index), size, mode="bicubic").clamp(0, 1)
    film = (255 * (0.9 * smooth + 0.1 * random(1, 1, *size, seed=index))).to(torch.uint8)
    matrix, expected = matrix_of(Augmenter(options, size, seed=7), film[0, 0].numpy(), 0, index)
    found = warp(film.double(), matrix, size)[0, 0].numpy()
    # cv2 rounds to whole grey levels and computes places in float32
    assert np.abs(found - expected).max() < 0.51
