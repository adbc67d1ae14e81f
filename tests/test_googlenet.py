import pytest
import torch
import torchvision
from torchvision.models import GoogLeNet_Weights

from gaze_lightning.models import Backbone

IMAGE = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def whole():
    """torchvision's own, with auxiliary heads, and with the statistics of a trained network."""
    torch.manual_seed(5)
    net = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of the batches
            module.bias.data.normal_()
    with torch.no_grad():
        net(torch.rand(4, 3, 96, 96))
    return net.eval()


@pytest.fixture
def stored(whole, monkeypatch):
    """Fetching torchvision's ImageNet weights gives those of ``whole``."""
    monkeypatch.setattr(GoogLeNet_Weights, "get_state_dict", lambda *_a, **_k: whole.state_dict())
    return whole


def features_of(net, image):
    """What torchvision's own forward hands to its average pooling."""
    seen = []
    hook = net.avgpool.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    net(image)
    hook.remove()
    return seen[0]


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 96), (224, 224), (160, 128)])
def test_features_are_torchvisions_up_to_its_pooling(stored, size):
    backbone = Backbone("googlenet", in_chans=3, pretrained=True, mean=0.5, std=0.5).eval()
    image = torch.rand(2, 1, *size)
    features = backbone(image)
    assert torch.equal(features, features_of(stored, ((image - 0.5) / 0.5).expand(-1, 3, -1, -1)))
    assert features.shape == (2, 1024, *(n // 32 for n in size))
    assert features.std() > 0.1


@torch.no_grad()
def test_one_channel_sees_the_same_as_three_equal_ones(stored):
    one = Backbone("googlenet", pretrained=True).eval()
    assert torch.equal(one.net.conv1.conv.weight, stored.conv1.conv.weight.sum(dim=1, keepdim=True))
    torch.testing.assert_close(one(IMAGE), features_of(stored, IMAGE.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_the_weights_expect_what_torchvision_makes_of_an_image():
    """torchvision normalises by ImageNet's statistics and undoes it in the network: (x - 0.5) / 0.5 is left."""
    net = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=False, transform_input=True)
    preset = GoogLeNet_Weights.IMAGENET1K_V1.transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preset.mean, preset.std))
    image = IMAGE.expand(-1, 3, -1, -1)
    torch.testing.assert_close(net._transform_input((image - mean) / std), (image - 0.5) / 0.5)


@pytest.mark.parametrize(("in_chans", "count"), [(3, 5_599_904), (1, 5_593_632)])
def test_nothing_but_the_layers_before_the_pooling_is_there(whole, in_chans, count):
    backbone = Backbone("googlenet", in_chans=in_chans)
    assert backbone.num_features == 1024
    unused = ("aux1.", "aux2.", "fc.")
    assert list(backbone.net.state_dict()) == [key for key in whole.state_dict() if not key.startswith(unused)]
    assert sum(p.numel() for p in backbone.parameters()) == count


def test_all_parameters_get_a_gradient():
    backbone = Backbone("googlenet")
    backbone(IMAGE).square().sum().backward()
    assert [key for key, p in backbone.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("in_chans", [1, 3])
def test_the_initialisation_is_torchvisions(in_chans):
    for name, module in Backbone("googlenet", in_chans=in_chans).named_modules():
        if isinstance(module, torch.nn.Conv2d):
            n = module.weight.numel()
            assert module.weight.std().item() == pytest.approx(0.01, rel=5 / n**0.5), name
            assert abs(module.weight.mean().item()) < 0.05 / n**0.5, name
        if isinstance(module, torch.nn.BatchNorm2d):
            assert (module.weight == 1).all(), name
            assert (module.bias == 0).all(), name


def test_the_start_of_three_channels_is_torchvisions_digit_for_digit():
    torch.manual_seed(7)
    own = Backbone("googlenet", in_chans=3).net.state_dict()
    torch.manual_seed(7)
    literal = torchvision.models.googlenet(weights=None, aux_logits=False, init_weights=True).state_dict()
    assert all(torch.equal(value, literal[key]) for key, value in own.items())


def test_a_file_of_torchvisions_weights_is_loaded(whole, tmp_path):
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    backbone = Backbone("googlenet", in_chans=3)
    report = backbone.load_pretrained(str(tmp_path / "googlenet.pth"))
    assert report.missing == report.mismatched == ()
    assert {key.split(".")[0] for key in report.unexpected} == {"aux1", "aux2", "fc"}
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in backbone.net.state_dict().items())


def test_another_stride_is_refused():
    with pytest.raises(ValueError, match=r"googlenet cannot be built with output_stride=16 .*use output_stride: 32"):
        Backbone("googlenet", output_stride=16)


def test_weights_out_of_reach_are_a_clear_error(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("cannot reach the web")

    monkeypatch.setattr(GoogLeNet_Weights, "get_state_dict", offline)
    with pytest.raises(ConnectionError, match=r"googlenet: .*could not be fetched.*path.safetensors"):
        Backbone("googlenet", pretrained=True)
