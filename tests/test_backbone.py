import pytest
import timm
import torch

from gaze_lightning.models import Backbone, normalise_films

IMAGE = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_nfnet", "test_byobnet"])
def test_features_are_a_map_with_the_announced_channels(name):
    backbone = Backbone(name).eval()
    features = backbone(IMAGE)
    assert features.shape == (2, backbone.num_features, 2, 3)


def test_channels_come_from_a_forward_and_not_from_attributes():
    backbone = Backbone("efficientnet_b0")  # forward_features includes the 1x1 convolution of the head
    assert backbone.num_features == 1280
    assert backbone.eval()(IMAGE).shape[1] == 1280


@pytest.mark.parametrize("name", ["test_vit", "test_mambaout", "swin_tiny_patch4_window7_224"])
def test_networks_without_a_feature_map_are_refused_with_names_that_work(name):
    with pytest.raises(ValueError, match=f"{name} .*models that work: resnet18"):
        Backbone(name)


def test_an_unknown_name_lists_similar_ones():
    with pytest.raises(ValueError, match=r"no model 'test_resnett'; similar names: .*test_resnet"):
        Backbone("test_resnett")


def test_a_smaller_stride_gives_a_finer_map():
    assert Backbone("test_resnet", output_stride=16).eval()(IMAGE).shape[-2:] == (4, 6)


def test_a_stride_that_the_network_does_not_offer_is_refused():
    with pytest.raises(ValueError, match="densenet121 cannot be built with output_stride=16"):
        Backbone("densenet121", output_stride=16)


def test_the_film_is_normalised_and_repeated():
    backbone = Backbone("test_resnet", in_chans=3, mean=0.4, std=0.2).eval()
    literal = backbone.net.forward_features((torch.cat([IMAGE, IMAGE, IMAGE], dim=1) - 0.4) / 0.2)
    torch.testing.assert_close(backbone(IMAGE), literal)


def test_memory_format_does_not_change_the_features():
    backbone = Backbone("test_resnet", channels_last=True).eval()
    plain = Backbone("test_resnet").eval()
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(backbone(IMAGE), plain(IMAGE), rtol=1e-4, atol=1e-5)
    assert backbone.net.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_building_leaves_batch_statistics_and_mode_alone():
    backbone = Backbone("test_resnet")
    assert all(module.training for module in backbone.modules())
    for name, buffer in backbone.named_buffers():
        assert torch.equal(buffer, torch.ones_like(buffer) if "var" in name else torch.zeros_like(buffer)), name


def test_pretrained_weights_out_of_reach_are_a_clear_error(monkeypatch):
    create = timm.create_model

    def offline(*args, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("cannot reach the hub")
        return create(*args, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ConnectionError, match=r"test_resnet: .*could not be fetched.*path.safetensors"):
        Backbone("test_resnet", pretrained=True)


def test_pretrained_true_copies_timms_weights(monkeypatch):
    source = timm.create_model("test_resnet", num_classes=0, global_pool="", in_chans=1)
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, pretrained=False, **k: source if pretrained else create(*a, **k)
    )
    backbone = Backbone("test_resnet", pretrained=True)
    for key, value in source.state_dict().items():
        assert torch.equal(backbone.net.state_dict()[key], value), key


@pytest.mark.parametrize(("argument", "value"), [("in_chans", 2), ("std", 0.0)])
def test_unusable_arguments_are_refused(argument, value):
    with pytest.raises(ValueError, match=argument):
        Backbone("test_resnet", **{argument: value})


def test_divide_by_max_makes_exposure_irrelevant_and_leaves_a_black_film_finite():
    backbone = Backbone("test_resnet", divide_by_max=True).eval()
    image = torch.rand(2, 1, 64, 64)
    image[:, :, 0, 0] = 1.0
    torch.testing.assert_close(backbone(0.4 * image), backbone(image))
    plain = Backbone("test_resnet").eval()
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(backbone(image), plain(image))
    assert not torch.allclose(plain(0.4 * image), plain(image))
    assert torch.isfinite(backbone(torch.zeros(1, 1, 64, 64))).all()


@pytest.fixture(scope="module")
def densenet():
    backbone = Backbone("densenet121", in_chans=3, mean=0.4, std=0.2, divide_by_max=True).eval()
    norm = backbone.net.features.norm5
    generator = torch.Generator().manual_seed(1)
    for values, low, high in (
        (norm.running_mean, -1, 1),
        (norm.running_var, 0.5, 2),
        (norm.weight.data, -2, 2),
        (norm.bias.data, -1, 1),
    ):
        values.copy_(low + (high - low) * torch.rand(values.shape, generator=generator))
    return backbone


@torch.no_grad()
def test_the_features_of_a_densenet_are_norm_and_relu_of_its_raw_map(densenet):
    raw, features = densenet.taps(IMAGE)
    norm = densenet.net.features.norm5
    scaled = (raw - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
    literal = (scaled * norm.weight[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
    torch.testing.assert_close(features, literal, rtol=1e-5, atol=1e-5)
    assert raw.shape == features.shape == (2, densenet.num_features, 2, 3)
    assert features.min() == 0
    assert features.max() > 0


@torch.no_grad()
def test_the_raw_map_of_a_densenet_is_the_output_of_its_last_dense_block_untouched(densenet):
    seen = []
    hook = densenet.net.features.denseblock4.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    raw = densenet.taps(IMAGE).raw
    hook.remove()
    assert torch.equal(raw, seen[0])


@torch.no_grad()
@pytest.mark.parametrize("name", ["densenet121", "test_resnet", "test_efficientnet"])
def test_forward_returns_the_features_of_the_taps_digit_for_digit(name, densenet):
    backbone = densenet if name == "densenet121" else Backbone(name).eval()
    raw, features = backbone.taps(IMAGE)
    assert torch.equal(features, backbone(IMAGE))
    assert (raw is features) == (name != "densenet121")


@torch.no_grad()
def test_forward_is_timms_on_the_normalised_film_digit_for_digit(densenet):
    film = IMAGE / IMAGE.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1 / 255)
    film = (film - 0.4) / 0.2
    assert torch.equal(densenet.normalise(IMAGE), film)
    assert torch.equal(densenet(IMAGE), densenet.net.forward_features(film.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("divide_by_max", [False, True])
def test_normalising_shifts_and_scales_a_copy(divide_by_max):
    image = torch.tensor([[0.0, 0.25], [0.5, 0.125]]).view(1, 1, 2, 2)
    before = image.clone()
    literal = (image * (2 if divide_by_max else 1) - 0.5) / 0.25
    assert torch.equal(normalise_films(image, 0.5, 0.25, divide_by_max), literal)
    assert torch.equal(image, before)
    assert torch.isfinite(normalise_films(torch.zeros_like(image), 0.5, 0.25, divide_by_max)).all()
