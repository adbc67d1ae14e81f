import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy, multivariate_normal, pearsonr
from sklearn.metrics import roc_auc_score

from gaze_lightning.metrics import (
    AGREEMENT_VALUES,
    SALIENCY_VALUES,
    SaliencyReport,
    gaze_references,
    map_agreement,
    resample_density,
    saliency_agreement,
)
from gaze_lightning.tasks import Classifier

H, W, h, w = 48, 40, 12, 10


def density(n, height, width, seed):
    values = torch.rand(n, 1, height, width, generator=torch.Generator().manual_seed(seed))
    return values / values.sum((1, 2, 3), keepdim=True)


def batch(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(n, 5, 5, generator=generator) * torch.tensor([W, H, 1.0, 1.0, 1.0])
    mask = torch.ones(n, 5, dtype=torch.bool)
    mask[:, 3:] = torch.arange(n)[:, None] % 2 == 0
    saliency = density(n, h, w, seed)
    has_gaze = torch.ones(n, dtype=torch.bool)
    has_gaze[1], saliency[1] = False, 0
    return {
        "image": torch.zeros(n, 1, H, W),
        "sample_id": [str(i) for i in range(n)],
        "saliency": saliency,
        "has_gaze": has_gaze,
        "fixations": points,
        "fixation_mask": mask & has_gaze[:, None],
    }


def literal(pred, inputs, i):
    """The five values of one map with scipy, scikit-learn and loops."""
    gaze = inputs["saliency"][i, 0].double().numpy()
    p, q = pred / pred.sum(), gaze / gaze.sum()
    cells = [
        (int(y / (H / h)), int(x / (W / w)))
        for (x, y), counts in zip(
            inputs["fixations"][i, :, :2].double().tolist(), inputs["fixation_mask"][i].tolist(), strict=True
        )
        if counts
    ]
    fixated = np.zeros((h, w), int)
    for cell in cells:
        fixated[cell] = 1
    return {
        "cc": pearsonr(pred.ravel(), gaze.ravel()).statistic,
        "kl": entropy(q.ravel(), p.ravel()),
        "sim": np.minimum(p, q).sum(),
        "nss": np.mean([(pred[cell] - pred.mean()) / pred.std() for cell in cells]),
        "auc_judd": roc_auc_score(fixated.ravel(), pred.ravel()),
    }


def assert_literal(values, pred, inputs, prefix=""):
    for i in range(len(pred)):
        if not inputs["has_gaze"][i]:
            assert all(values[prefix + name][i].isnan() for name in AGREEMENT_VALUES)
            continue
        for name, expected in literal(pred[i].double().numpy(), inputs, i).items():
            assert values[prefix + name][i].item() == pytest.approx(expected, abs=1e-9), (prefix, name, i)


def test_map_agreement_equals_scipy_and_sklearn_on_the_grid_of_the_gaze():
    inputs, pred = batch(), torch.rand(4, h, w, generator=torch.Generator().manual_seed(1)).double()
    values = map_agreement(pred, inputs)
    assert tuple(values) == AGREEMENT_VALUES
    assert all(value.shape == (4,) and value.dtype == torch.float64 for value in values.values())
    assert_literal(values, pred, inputs)


def test_without_saliency_or_fixations_the_values_that_need_them_are_undefined():
    inputs, pred = batch(), torch.rand(4, h, w)
    del inputs["fixations"], inputs["fixation_mask"]
    values = map_agreement(pred, inputs)
    assert [bool(values[name][0].isnan()) for name in AGREEMENT_VALUES] == [False, False, False, True, True]
    del inputs["saliency"]
    assert all(value.isnan().all() for value in map_agreement(pred, inputs).values())
    assert tuple(saliency_agreement(density(4, H, W, 1), inputs)) == SALIENCY_VALUES


def test_a_map_on_another_grid_is_an_error():
    with pytest.raises(ValueError, match="differ in size"):
        map_agreement(torch.rand(4, h + 1, w), batch())


def literal_resample(values, size):
    """Every source cell is cut into so many equal parts that each lies in one target cell."""
    cut = np.repeat(np.repeat(values, size[0], 0), size[1], 1) / (size[0] * size[1])
    rows, columns = values.shape
    return cut.reshape(size[0], rows, size[1], columns).sum((1, 3))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_resampling_moves_mass_by_overlap_and_keeps_it(rows, columns, to_rows, to_columns):
    given_maps = density(2, rows, columns, 3)[:, 0].double()
    result = resample_density(given_maps, (to_rows, to_columns))
    for before, after in zip(given_maps, result, strict=True):
        np.testing.assert_allclose(after, literal_resample(before.numpy(), (to_rows, to_columns)), atol=1e-12)
        assert after.sum().item() == pytest.approx(before.sum().item(), abs=1e-12)


@pytest.mark.parametrize("size", [(H, W), (h, w), (31, 17), (6, 5)])
def test_saliency_is_compared_on_the_grid_of_the_gaze_whatever_its_own(size):
    inputs, saliency = batch(), density(4, *size, 2)
    on_grid = torch.from_numpy(np.stack([literal_resample(s[0].double().numpy(), (h, w)) for s in saliency]))
    assert_literal(saliency_agreement(saliency, inputs), on_grid, inputs, "saliency_")


def test_a_logarithm_a_negative_density_and_a_wrong_shape_are_refused():
    inputs, good = batch(), density(4, H, W, 2)
    for bad in (good.log(), -good, good.masked_fill(good == good.max(), math.nan)):
        with pytest.raises(ValueError, match="not their logarithm"):
            saliency_agreement(bad, inputs)
    with pytest.raises(ValueError, match=r"\[B, 1, H, W\]"):
        saliency_agreement(good[:, 0], inputs)


def test_references_are_scored_like_any_map():
    inputs = batch() | {"mean_saliency": density(4, h, w, 5), "other_saliency": density(4, h, w, 6)}
    inputs["film_box"] = torch.tensor([[4.0, 0.0, 36.0, 48.0], [0, 0, 40, 48], [0, 12, 40, 36], [0, 0, 40, 48]])
    values = gaze_references(inputs)
    assert list(values) == [
        f"{name}_{value}" for name in ("mean_map", "centre", "readers") for value in AGREEMENT_VALUES
    ]
    assert_literal(values, inputs["mean_saliency"][:, 0], inputs, "mean_map_")
    assert_literal(values, inputs["other_saliency"][:, 0], inputs, "readers_")
    y, x = np.meshgrid((np.arange(h) + 0.5) * H / h, (np.arange(w) + 0.5) * W / w, indexing="ij")
    centres = []
    for x0, y0, x1, y1 in inputs["film_box"].tolist():
        mean, spread = [(y0 + y1) / 2, (x0 + x1) / 2], [((y1 - y0) / 4) ** 2, ((x1 - x0) / 4) ** 2]
        centres.append(torch.from_numpy(multivariate_normal(mean, np.diag(spread)).pdf(np.stack([y, x], -1))))
    assert_literal(values, torch.stack(centres), inputs, "centre_")


def test_references_whose_key_is_absent_are_left_out_and_films_with_one_reading_have_no_ceiling():
    inputs = batch()
    assert list(gaze_references(inputs)) == [f"centre_{name}" for name in AGREEMENT_VALUES]
    inputs["other_saliency"] = density(4, h, w, 6)
    inputs["other_saliency"][2] = 0
    values = gaze_references(inputs)
    assert not any(name.startswith("mean_map") for name in values)
    for name in AGREEMENT_VALUES:
        assert values[f"readers_{name}"].isnan().tolist() == [False, True, True, False]
        assert values[f"centre_{name}"].isnan().tolist() == [False, True, False, False]
    assert gaze_references({"image": inputs["image"], "sample_id": inputs["sample_id"]}) == {}


def test_without_a_film_box_the_centre_is_that_of_the_image():
    inputs = batch()
    whole = inputs | {"film_box": torch.tensor([[0.0, 0.0, W, H]]).repeat(4, 1)}
    for name, value in gaze_references(inputs).items():
        torch.testing.assert_close(value, gaze_references(whole)[name], equal_nan=True)


def test_the_report_is_the_mean_over_defined_samples_and_counts_the_rest():
    inputs, saliency = batch(6), density(6, H, W, 2)
    saliency[4] = 1 / (H * W)  # constant: no CC and no NSS
    metric = SaliencyReport()
    for rows in (slice(0, 4), slice(4, 6)):
        metric.update(saliency[rows], {key: value[rows] for key, value in inputs.items()})
    values = saliency_agreement(saliency, inputs)
    computed = metric.compute()
    assert tuple(computed) == SALIENCY_VALUES
    for name, value in computed.items():
        assert value.dtype == torch.float64
        assert value.item() == pytest.approx(values[name].nanmean().item(), abs=1e-12)
    assert metric.defined.tolist() == [4, 5, 5, 4, 5]
    assert metric.excluded.tolist() == [2, 1, 1, 2, 1]
    twin = pickle.loads(pickle.dumps(metric))  # noqa: S301
    assert twin.compute() == computed
    metric.reset()
    assert not metric.defined.any()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_the_report_of_no_gaze_is_undefined():
    assert all(value.isnan() for value in SaliencyReport().compute().values())


def test_the_classifier_s_test_step_has_the_references_that_the_batch_allows():
    task = Classifier(["a", "b"], backbone="test_resnet").eval()
    inputs = batch() | {"label": torch.tensor([0, 1, 0, 1]), "image": torch.rand(4, 1, 96, 80)}
    inputs["fixations"][..., :2] *= 2
    values = task.test_step(inputs, 0)["values"]
    assert {"gaze_cc", "centre_cc"} <= set(values)
    assert "mean_map_cc" not in values
    inputs["mean_saliency"] = density(4, h, w, 5)
    values = task.test_step(inputs, 0)["values"]
    assert values["mean_map_cc"].isnan().tolist() == values["gaze_cc"].isnan().tolist() == [False, True, False, False]
    bare = {key: inputs[key] for key in ("image", "sample_id", "label")}
    assert not any(name.startswith(("centre", "mean_map", "readers")) for name in task.test_step(bare, 0)["values"])
