import pytest
import timm
import torch

from gaze_lightning.models import Backbone

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
