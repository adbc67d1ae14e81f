import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gaze_lightning.models import (
    Backbone,
    DoubleConv,
    DualEncoderUNet,
    MTUNet,
    ResidualEncoder,
    ResidualSE,
    SaliencyHead,
    UNetDecoder,
)

IMAGE = torch.rand(2, 1, 96, 80, generator=torch.Generator().manual_seed(0))


def size_of(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def used(module, seed=0):
    """The module in eval mode with weights and batch statistics as after some training."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low in (
                (part.running_mean, -0.5),
                (part.running_var, 0.5),
                (part.weight, 0.5),
                (part.bias, -0.5),
            ):
                values.data.copy_(low + torch.rand(values.shape, generator=generator))
    return module.eval()


def dual(name="test_resnet", num_classes=3, width=0.125, fusion_inputs="both", seed=0, **options):
    torch.manual_seed(seed)
    return used(DualEncoderUNet(Backbone(name, **options), num_classes, width, fusion_inputs))


def mtunet(num_classes=3, seed=0, **options):
    torch.manual_seed(seed)
    return used(MTUNet(num_classes, width=0.125, **options))


def shapes_of(modules, run):
    """Shapes of the outputs of ``modules``, in order of their calls, while ``run()`` is running."""
    shapes = []
    hooks = [m.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:]))) for m in modules]
    run()
    for hook in hooks:
        hook.remove()
    return shapes


# -- published sizes; nothing is computed on the meta device -----------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return DualEncoderUNet(Backbone("densenet201", in_chans=3), num_classes=3).eval()


def test_the_published_network_has_the_parameters_of_every_row_of_the_table(published):
    rows = {name: size_of(part) for name, part in published.named_children()}
    assert rows == {
        "encoder": 18_092_928,
        "linear_head": 5_763,
        "residual_encoder": 25_294_016,
        "decoder": 23_086_080,
        "saliency_head": 37_121,
        "fusion_head": 127_235,
    }
    assert size_of(published) == 66_643_143


def test_the_stages_of_the_published_network_train_as_many_parameters_as_published(published):
    assert size_of(published.residual_encoder, published.decoder, published.saliency_head) == 48_417_217
    assert size_of(published.fusion_head) == 127_235


def test_each_published_residual_se_block_has_the_parameters_of_its_row(published):
    assert [size_of(b) for b in published.residual_encoder.blocks] == [
        38_976,
        297_856,
        1_189_632,
        4_754_944,
        19_012_608,
    ]


def test_the_published_maps_have_the_shapes_of_the_table(published):
    with torch.device("meta"):
        image = torch.zeros(1, 1, 640, 512)
    raw, features = published.encode(image)
    assert raw.shape == features.shape == (1, 1920, 20, 16)
    skips = shapes_of(published.residual_encoder.blocks, lambda: published.decode(image, raw))
    assert skips == [(64, 640, 512), (128, 320, 256), (256, 160, 128), (512, 80, 64), (1024, 40, 32)]
    steps = [(512, 40, 32), (256, 80, 64), (128, 160, 128), (64, 320, 256), (64, 640, 512)]
    assert shapes_of(published.decoder.up, lambda: published.decode(image, raw)) == steps
    assert shapes_of(published.decoder.fuse, lambda: published.decode(image, raw)) == steps
    assert [fuse[0][0].in_channels for fuse in published.decoder.fuse] == [1536, 768, 384, 192, 128]
    assert published.saliency_head(published.decode(image, raw)).shape == (1, 1, 640, 512)


def test_the_published_mtunet_has_34632836_parameters_beside_the_sigma_of_its_loss():
    with torch.device("meta"):
        net = MTUNet(num_classes=3)
    assert size_of(net) == 34_632_836
    assert net.class_head.hidden.in_features == 1088


# -- elements, against literal versions --------------------------------------------------------------------------------


def conv3(x, conv):
    """3x3 convolution with zeros outside, as nine shifted products."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1))
    total = conv.bias[:, None, None].expand(len(x), -1, height, width)
    for i in range(3):
        for j in range(3):
            shifted = padded[:, :, i : i + height, j : j + width]
            total = total + torch.einsum("oc,bchw->bohw", conv.weight[:, :, i, j], shifted)
    return total


def norm(x, layer):
    scale = layer.weight / (layer.running_var + layer.eps).sqrt()
    return (x - layer.running_mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]


def conv_norm_relu(x, layers):
    return norm(conv3(x, layers[0]), layers[1]).clamp(min=0)


@torch.no_grad()
@pytest.mark.parametrize("channels", [3, 32])  # 3: one squeezed channel
def test_a_residual_se_block_is_that_of_the_formula(channels):
    torch.manual_seed(1)
    block = used(ResidualSE(2, channels))
    x = torch.randn(2, 2, 5, 4)
    inner = norm(conv3(x, block.conv1), block.norm1).clamp(min=0)
    y = (norm(conv3(inner, block.conv2), block.norm2) + conv3(x, block.shortcut)).clamp(min=0)
    literal = torch.empty_like(y)
    for n in range(2):
        means = torch.stack([y[n, c].sum() / 20 for c in range(channels)])
        weights = torch.sigmoid(block.excite.weight @ (block.squeeze.weight @ means).clamp(min=0))
        for c in range(channels):
            literal[n, c] = y[n, c] * weights[c]
    torch.testing.assert_close(block(x), literal, rtol=1e-4, atol=1e-5)
    assert block.squeeze.out_features == max(1, channels // 16)


@torch.no_grad()
def test_the_residual_encoder_pools_by_two_between_its_blocks():
    torch.manual_seed(1)
    encoder = used(ResidualEncoder([3, 4, 5]))
    maps = encoder(IMAGE)
    literal = [encoder.blocks[0](IMAGE)]
    for block in encoder.blocks[1:]:
        x = literal[-1]
        corners = [x[:, :, i::2, j::2] for i in range(2) for j in range(2)]
        literal.append(block(torch.stack(corners).amax(dim=0)))
    assert [m.shape[1:] for m in maps] == [(3, 96, 80), (4, 48, 40), (5, 24, 20)]
    for found, expected in zip(maps, literal, strict=True):
        torch.testing.assert_close(found, expected)


@torch.no_grad()
def test_a_double_convolution_is_twice_convolution_norm_and_relu():
    torch.manual_seed(1)
    block = used(DoubleConv(2, 3))
    x = torch.randn(2, 2, 5, 4)
    torch.testing.assert_close(block(x), conv_norm_relu(conv_norm_relu(x, block[0]), block[1]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_decoder_takes_the_deepest_skip_first_and_puts_its_channels_before_those_from_below():
    torch.manual_seed(1)
    decoder = used(UNetDecoder(5, skips=[4, 3], widths=[4, 2]))
    bottom, skips = torch.randn(2, 5, 2, 3), [torch.randn(2, 4, 4, 6), torch.randn(2, 3, 9, 12)]
    x = bottom
    for up, fuse, skip in zip(decoder.up, decoder.fuse, skips, strict=True):
        height, width = skip.shape[-2:]
        rows = [i * x.shape[2] // height for i in range(height)]
        columns = [j * x.shape[3] // width for j in range(width)]
        climbed = conv_norm_relu(x[:, :, rows][:, :, :, columns], up)
        x = torch.cat([skip, climbed], dim=1)
        x = conv_norm_relu(conv_norm_relu(x, fuse[0]), fuse[1])
    before = bottom.clone()
    torch.testing.assert_close(decoder(bottom, skips), x, rtol=1e-4, atol=1e-5)
    assert torch.equal(bottom, before)


def test_a_decoder_needs_one_skip_per_step():
    with pytest.raises(ValueError, match="2 skips for 1 widths"):
        UNetDecoder(5, skips=[4, 3], widths=[4])


@torch.no_grad()
def test_saliency_is_a_softmax_over_all_pixels_of_each_film():
    torch.manual_seed(1)
    head = used(SaliencyHead(4))
    x = 5 * torch.randn(3, 4, 7, 5)
    inner = conv_norm_relu(x, head.conv)
    score = (torch.einsum("c,bchw->bhw", head.score.weight[0, :, 0, 0], inner) + head.score.bias).double().exp()
    literal = score / score.sum(dim=(1, 2), keepdim=True)
    log_saliency = head(x)
    assert log_saliency.shape == (3, 1, 7, 5)
    torch.testing.assert_close(log_saliency[:, 0].double().exp(), literal, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(log_saliency.exp().sum(dim=(1, 2, 3)), torch.ones(3))


@torch.no_grad()
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_saliency_sums_to_one_in_float32_also_in_low_precision(how):
    torch.manual_seed(1)
    head = used(SaliencyHead(4))
    x = torch.randn(2, 4, 160, 128)
    if how == "weights":
        log_saliency = head.bfloat16()(x.bfloat16())
    else:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            log_saliency = head(x)
    assert log_saliency.dtype == torch.float32
    torch.testing.assert_close(log_saliency.exp().double().sum(dim=(1, 2, 3)).float(), torch.ones(2), rtol=1e-4, atol=0)


# -- whole networks ----------------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "resnet18", "densenet121"])
@pytest.mark.parametrize("size", [(96, 80), (97, 83), (32, 32)])
def test_any_backbone_and_size_give_saliency_on_the_pixels_and_maps_on_the_backbones_grid(name, size, networks):
    net = networks(name)
    image = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0))
    out = net(image)
    grid = net.encoder(image).shape[-2:]
    assert out.logits.shape == out.linear_logits.shape == (1, 3)
    assert out.linear_maps.shape == (1, 3, *grid)
    assert out.log_saliency.shape == (1, 1, *size)
    assert out.features.shape == (1, net.encoder.num_features, *grid)
    assert out.decoded.shape == (1, 8, *size)
    assert all(torch.isfinite(part).all() for part in out)
    assert out.log_saliency.exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def networks():
    made = {}
    return lambda name: made[name] if name in made else made.setdefault(name, dual(name))


@torch.no_grad()
def test_the_decoder_starts_from_the_map_before_the_last_norm_and_the_heads_see_the_one_after_it(networks):
    net = networks("densenet121")
    seen = {}
    parts = ("residual_encoder", "decoder", "linear_head", "fusion_head", "saliency_head")
    hooks = [
        getattr(net, name).register_forward_pre_hook(lambda _m, args, name=name: seen.__setitem__(name, args))
        for name in parts
    ]
    out = net(IMAGE)
    for hook in hooks:
        hook.remove()
    raw, features = net.encoder.taps(IMAGE)
    assert raw.min() < 0 == features.min()
    assert torch.equal(seen["decoder"][0], raw)
    assert torch.equal(seen["linear_head"][0], features)
    assert torch.equal(seen["fusion_head"][0][0], features)
    assert torch.equal(seen["fusion_head"][0][1], out.decoded)
    assert torch.equal(seen["saliency_head"][0], out.decoded)
    assert [skip.shape[1] for skip in seen["decoder"][1]] == [128, 64, 32, 16, 8]


@torch.no_grad()
def test_the_saliency_encoder_sees_the_film_as_the_backbone_does_with_one_channel():
    net = dual(in_chans=3, mean=0.4, std=0.2)
    seen = []
    net.residual_encoder.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    net(IMAGE)
    assert torch.equal(seen[0], (IMAGE - 0.4) / 0.2)


@torch.no_grad()
@pytest.mark.parametrize("fusion_inputs", ["both", "encoder", "decoder"])
def test_the_fusion_head_classifies_the_chosen_means(fusion_inputs):
    net = dual(fusion_inputs=fusion_inputs)
    out = net(IMAGE)
    chosen = {"both": [out.features, out.decoded], "encoder": [out.features], "decoder": [out.decoded]}[fusion_inputs]
    means = torch.cat([m.mean(dim=(2, 3)) for m in chosen], dim=1)
    head = net.fusion_head
    torch.testing.assert_close(out.logits, head.output(head.hidden(means).clamp(min=0)))
    linear = F.linear(out.features.mean(dim=(2, 3)), net.linear_head.weight.weight[:, :, 0, 0], net.linear_head.bias)
    torch.testing.assert_close(out.linear_logits, linear)
    grid = chosen[0].shape[-2:]
    assert head.class_maps(net.fused(out.features, out.decoded)).shape == (2, 3, *grid)


@torch.no_grad()
@pytest.mark.parametrize("build", [dual, mtunet])
def test_a_prediction_does_not_depend_on_the_batch(build):
    net = build()
    together = net(IMAGE)
    for n in range(2):
        for alone, part in zip(net(IMAGE[n : n + 1]), together, strict=True):
            torch.testing.assert_close(alone, part[n : n + 1], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_classes_there_is_saliency_and_no_class_head():
    net, full = dual(num_classes=0), dual()
    assert net.linear_head is net.fusion_head is None
    net.load_state_dict(
        {k: v for k, v in full.state_dict().items() if not k.startswith(("linear_head", "fusion_head"))}
    )
    out, expected = net(IMAGE), full(IMAGE)
    assert torch.equal(out.log_saliency, expected.log_saliency)
    assert out.logits.shape == out.linear_logits.shape == (2, 0)
    assert out.linear_maps.shape == (2, 0, *expected.linear_maps.shape[2:])
    assert out.logits.dtype == out.linear_maps.dtype == torch.float32


@pytest.mark.parametrize("build", [dual, mtunet])
def test_every_parameter_takes_part_in_the_joint_loss(build):
    net = build().train()
    out = net(IMAGE)
    loss = out.logits.square().sum() - out.log_saliency[:, :, 10:30].mean()
    if build is dual:
        loss = loss + out.linear_logits.square().sum()
    loss.backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@torch.no_grad()
@pytest.mark.parametrize("build", [dual, mtunet])
def test_saliency_and_logits_are_float32_under_autocast(build):
    net = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = net(IMAGE)
    assert out.logits.dtype == out.log_saliency.dtype == torch.float32
    torch.testing.assert_close(out.log_saliency.exp().sum(dim=(1, 2, 3)), torch.ones(2), rtol=1e-4, atol=0)


@torch.no_grad()
def test_memory_format_follows_the_backbone_and_does_not_change_predictions():
    fast, plain = dual(channels_last=True), dual()
    plain.load_state_dict(fast.state_dict())
    assert fast(IMAGE).decoded.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(fast(IMAGE), plain(IMAGE), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_one_factor_scales_all_channels_and_leaves_at_least_one():
    net = dual()
    assert [b.conv1.out_channels for b in net.residual_encoder.blocks] == [8, 16, 32, 64, 128]
    assert [up[0].out_channels for up in net.decoder.up] == [64, 32, 16, 8, 8]
    assert net.saliency_head.score.in_channels == 8
    assert net.fusion_head.hidden.out_features == 64
    assert [b[0][0].out_channels for b in mtunet().encoder] == [8, 16, 32, 64, 128]
    thin = dual(width=1e-3)
    assert [b.conv1.out_channels for b in thin.residual_encoder.blocks] == [1, 1, 1, 1, 1]
    assert thin(IMAGE).decoded.shape == (2, 1, 96, 80)


@torch.no_grad()
def test_mtunet_classifies_the_means_of_its_deepest_and_its_last_map():
    net = mtunet()
    seen = {}
    net.encoder[-1].register_forward_hook(lambda _m, _i, out: seen.update(bottom=out))
    net.decoder.register_forward_hook(lambda _m, args, out: seen.update(skips=args[1], decoded=out))
    out = net(IMAGE)
    means = torch.cat([seen["bottom"].mean(dim=(2, 3)), seen["decoded"].mean(dim=(2, 3))], dim=1)
    head = net.class_head
    torch.testing.assert_close(out.logits, head.output(head.hidden(means).clamp(min=0)))
    assert [tuple(skip.shape[1:]) for skip in seen["skips"]] == [(64, 12, 10), (32, 24, 20), (16, 48, 40), (8, 96, 80)]
    torch.testing.assert_close(out.log_saliency, net.saliency_head(seen["decoded"]))
    active = (head.hidden(means) > 0).float()
    constant = (active * head.hidden.bias) @ head.output.weight.T + head.output.bias
    assert out.maps.shape == (2, 3, 6, 5)
    torch.testing.assert_close(out.maps.mean(dim=(2, 3)) + constant, out.logits, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_encoder_of_mtunet_takes_the_maximum_of_two_by_two_pixels_between_its_blocks():
    net = mtunet()
    calls = []
    for block in net.encoder:
        block.register_forward_hook(lambda _m, args, out: calls.append((args[0], out)))
    net(IMAGE)
    assert torch.equal(calls[0][0], IMAGE)
    for (_, above), (below, _) in itertools.pairwise(calls):
        corners = [above[:, :, i::2, j::2] for i in range(2) for j in range(2)]
        assert torch.equal(below, torch.stack(corners).amax(dim=0))


@torch.no_grad()
def test_mtunet_normalises_films_as_a_backbone_does():
    plain, net = mtunet(), mtunet(mean=0.4, std=0.2, divide_by_max=True)
    film = (IMAGE / IMAGE.amax(dim=(1, 2, 3), keepdim=True) - 0.4) / 0.2
    for a, b in zip(net(IMAGE), plain(film), strict=True):
        assert torch.equal(a, b)
    assert not torch.allclose(plain(IMAGE).logits, plain(film).logits)


@torch.no_grad()
@pytest.mark.parametrize("size", [(97, 83), (16, 31)])
def test_mtunet_takes_films_of_any_size(size):
    out = mtunet()(torch.rand(1, 1, *size))
    assert out.log_saliency.shape == (1, 1, *size)
    assert out.maps.shape == (1, 3, size[0] // 16, size[1] // 16)
    assert out.log_saliency.exp().sum().item() == pytest.approx(1, abs=1e-5)


@torch.no_grad()
def test_mtunet_without_classes_predicts_gaze_alone():
    out = mtunet(num_classes=0)(IMAGE)
    assert out.logits.shape == (2, 0)
    assert out.maps.shape == (2, 0, 6, 5)
    assert torch.equal(out.log_saliency, mtunet()(IMAGE).log_saliency)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MTUNet(3, width=0), "width"),
        (lambda: MTUNet(3, std=0.0), "std"),
        (lambda: DualEncoderUNet(Backbone("test_resnet"), 3, width=-1), "width"),
        (lambda: DualEncoderUNet(Backbone("test_resnet"), 3, fusion_inputs="all"), "fusion_inputs"),
    ],
)
def test_unusable_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
