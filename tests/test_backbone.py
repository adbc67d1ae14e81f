import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

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


NAMED = ["resnet18", "resnet50", "densenet121", "densenet201", "vgg16", "googlenet", "tf_efficientnetv2_s"]


@pytest.mark.parametrize("name", [*NAMED, "convnext_tiny", "vgg11_bn", "mobilenetv3_small_100", "test_nfnet"])
def test_every_trained_parameter_gets_a_gradient(name):
    """Otherwise training on several devices (DDP) stops."""
    backbone = Backbone(name)
    backbone(IMAGE).sum().backward()
    assert [key for key, p in backbone.named_parameters() if (p.grad is None) == p.requires_grad] == []
    if name in NAMED or name.startswith("vgg"):
        assert all(p.requires_grad for p in backbone.parameters())


def test_the_unused_norm_of_a_convnexts_head_keeps_its_name_and_is_not_trained():
    backbone = Backbone("convnext_tiny")
    assert backbone.net.state_dict().keys() == timm.create_model("convnext_tiny", num_classes=0).state_dict().keys()
    frozen = [key for key, p in backbone.net.named_parameters() if not p.requires_grad]
    assert frozen == ["head.norm.weight", "head.norm.bias"]


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "tf_efficientnetv2_s"])
def test_the_keys_and_the_initial_weights_are_timms(name):
    torch.manual_seed(3)
    backbone = Backbone(name).net.state_dict()
    torch.manual_seed(3)
    literal = timm.create_model(name, num_classes=0, global_pool="", in_chans=1).state_dict()
    assert list(backbone) == list(literal)
    assert all(torch.equal(backbone[key], value) for key, value in literal.items())


@pytest.fixture(scope="module")
def vgg():
    """timm's own, all of it, of one input channel."""
    return timm.create_model("vgg11", num_classes=5, in_chans=1).eval()


@torch.no_grad()
def test_of_a_vgg_only_the_convolutions_are_built(vgg):
    backbone = Backbone("vgg11").eval()
    expected = [key for key in vgg.state_dict() if key.startswith("features.")]
    assert list(backbone.net.state_dict()) == expected
    backbone.net.load_state_dict({key: vgg.state_dict()[key] for key in expected})
    assert torch.equal(backbone(IMAGE), vgg.forward_features(IMAGE))


def test_a_weights_file_of_a_whole_vgg_fills_the_convolutions(vgg, tmp_path):
    save_file(vgg.state_dict(), tmp_path / "vgg.safetensors")
    backbone = Backbone("vgg11")
    report = backbone.load_pretrained(str(tmp_path / "vgg.safetensors"))
    assert report.missing == report.mismatched == ()
    assert {key.split(".")[0] for key in report.unexpected} == {"pre_logits", "head"}
    for key, value in backbone.net.state_dict().items():
        assert torch.equal(value, vgg.state_dict()[key]), key


def test_pretrained_true_fills_the_convolutions_of_a_vgg(vgg, monkeypatch):
    create = timm.create_model

    def stored(*args, pretrained=False, **kwargs):
        net = create(*args, **kwargs)
        if pretrained:
            net.load_state_dict(vgg.state_dict(), strict=False)
        return net

    monkeypatch.setattr(timm, "create_model", stored)
    backbone = Backbone("vgg11", pretrained=True)
    assert all(torch.equal(value, vgg.state_dict()[key]) for key, value in backbone.net.state_dict().items())


def resnet18_up_to(net, name, x):
    """The head of torchvision's and timm's ResNet, literally: the map at a position and the layers that follow."""
    x = net.act1(net.bn1(net.conv1(x)))
    rest = [net.maxpool, net.layer1, net.layer2, net.layer3, net.layer4]
    n = {"stem": 0, "stage1": 2, "stage2": 3, "stage3": 4, "stage4": 5}[name]
    return nn.Sequential(*rest[:n])(x), nn.Sequential(*rest[n:])


@pytest.mark.parametrize("position", ["stem", "stage1", "stage2", "stage3", "stage4"])
def test_a_change_equals_a_forward_split_by_hand(position):
    backbone = Backbone("resnet18", in_chans=3, mean=0.4, std=0.2).eval()
    factor = torch.tensor(0.7, requires_grad=True)
    out = backbone(IMAGE, position, lambda x: x * factor.sigmoid())
    (gradient,) = torch.autograd.grad(out.sum(), factor)
    middle, rest = resnet18_up_to(backbone.net, position, ((IMAGE - 0.4) / 0.2).expand(-1, 3, -1, -1))
    literal = rest(middle * factor.sigmoid())
    assert torch.equal(out, literal)
    assert torch.equal(gradient, torch.autograd.grad(literal.sum(), factor)[0])
    assert not torch.allclose(out, backbone(IMAGE))


POSITIONS = {
    "resnet18": ["stem 64 2", "stage1 64 4", "stage2 128 8", "stage3 256 16", "stage4 512 32"],
    "densenet121": ["stem 64 2", "stage1 256 4", "stage2 512 8", "stage3 1024 16", "stage4 1024 32"],
    "vgg11": ["stem 64 1", "stage1 128 2", "stage2 256 4", "stage3 512 8", "stage4 512 16", "stage5 512 32"],
    "googlenet": ["stem 64 2", "stage1 192 4", "stage2 480 8", "stage3 832 16", "stage4 1024 32"],
    "convnext_tiny": ["stem 96 4", "stage1 96 4", "stage2 192 8", "stage3 384 16", "stage4 768 32"],
    "efficientnet_b0": [
        "stem 32 2",
        "stage1 16 2",
        "stage2 24 4",
        "stage3 40 8",
        "stage4 112 16",
        "stage5 1280 32",
    ],
    "test_nfnet": ["stem 64 2", "stage1 32 4", "stage2 64 8", "stage3 96 16", "stage4 192 32"],
}


@torch.no_grad()
@pytest.mark.parametrize("name", POSITIONS)
def test_positions_have_these_channels_and_strides_and_identity_changes_nothing(name):
    backbone = Backbone(name).eval()
    plain, seen = backbone(IMAGE), []

    def look(x):
        seen.append(x)
        return x

    found = []
    for position in backbone.positions:
        assert torch.equal(backbone(IMAGE, position, look), plain)
        found.append(f"{position} {seen[-1].shape[1]} {64 // seen[-1].shape[2]}")
    assert found == POSITIONS[name]
    assert len(seen) == len(found)
    assert torch.equal(seen[-1], plain)


def test_levels_that_are_not_one_map_are_no_positions():
    assert Backbone("hrnet_w18_small").positions == ("stage4",)


def test_an_unknown_position_lists_the_known_ones():
    with pytest.raises(ValueError, match="test_resnet has no position 'layer1'; choose one of stem, stage1, stage2"):
        Backbone("test_resnet")(IMAGE, "layer1", lambda x: x)


@torch.no_grad()
def test_a_change_acts_once_and_is_gone_also_after_an_error():
    backbone = Backbone("test_resnet").eval()
    plain = backbone(IMAGE)

    def fail(_x):
        raise RuntimeError("on purpose")

    for position in backbone.positions:
        with pytest.raises(RuntimeError, match="on purpose"):
            backbone(IMAGE, position, fail)
        assert torch.equal(backbone(IMAGE), plain)
        assert not torch.equal(backbone(IMAGE, position, lambda x: 0.5 * x), plain)
        assert torch.equal(backbone(IMAGE), plain)
        assert torch.equal(backbone(IMAGE, position), plain)
        assert torch.equal(backbone(IMAGE, None, fail), plain)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_vgg_without_its_last_pooling_has_twice_the_cells_and_the_same_weights():
    torch.manual_seed(0)
    coarse = Backbone("vgg11")
    torch.manual_seed(0)
    fine = Backbone("vgg11", output_stride=16)
    assert coarse.state_dict().keys() == fine.state_dict().keys()
    image = torch.rand(2, 1, 64, 96)
    assert fine(image).shape == (2, 512, 4, 6)
    assert torch.equal(torch.nn.functional.max_pool2d(fine(image), 2), coarse(image))
    assert fine.positions == coarse.positions
    with pytest.raises(ValueError, match="output_stride"):
        Backbone("vgg11", output_stride=8)
