"""Inverted residuals: MobileNets and EfficientNets, in torchvision's manner."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks.fixture import Fixture, image


def _make_divisible(v, divisor=8, min_value=None):
    if min_value is None:
        min_value = divisor
    new_v = max(min_value, int(v + divisor / 2) // divisor * divisor)
    if new_v < 0.9 * v:
        new_v += divisor
    return new_v


class ConvNormActivation(nn.Sequential):
    def __init__(self, inp, oup, kernel_size=3, stride=1, groups=1, norm=nn.BatchNorm2d, act=nn.ReLU, dilation=1):
        padding = (kernel_size - 1) // 2 * dilation
        layers = [nn.Conv2d(inp, oup, kernel_size, stride, padding, dilation, groups, bias=norm is None)]
        if norm is not None:
            layers.append(norm(oup))
        if act is not None:
            layers.append(act() if act is nn.Sigmoid else act(inplace=True))
        super().__init__(*layers)
        self.out_channels = oup


# MobileNetV2 (arXiv:1801.04381)


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio, norm=nn.BatchNorm2d):
        super().__init__()
        self.stride = stride
        if stride not in [1, 2]:
            raise ValueError(f"stride should be 1 or 2 instead of {stride}")
        hidden_dim = round(inp * expand_ratio)
        self.use_res_connect = self.stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers.append(ConvNormActivation(inp, hidden_dim, kernel_size=1, norm=norm, act=nn.ReLU6))
        layers.extend(
            [
                ConvNormActivation(hidden_dim, hidden_dim, stride=stride, groups=hidden_dim, norm=norm, act=nn.ReLU6),
                nn.Conv2d(hidden_dim, oup, 1, 1, 0, bias=False),
                norm(oup),
            ]
        )
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        if self.use_res_connect:
            return x + self.conv(x)
        else:
            return self.conv(x)


SETTING = [
    # t, c, n, s
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


class MobileNetV2(nn.Module):
    def __init__(self, num_classes=1000, width_mult=1.0, setting=SETTING, channels=3, stem_stride=2, last=1280):
        super().__init__()
        input_channel = _make_divisible(32 * width_mult, 8)
        self.last_channel = _make_divisible(last * max(1.0, width_mult), 8)
        features = [ConvNormActivation(channels, input_channel, stride=stem_stride, act=nn.ReLU6)]
        for t, c, n, s in setting:
            output_channel = _make_divisible(c * width_mult, 8)
            for i in range(n):
                stride = s if i == 0 else 1
                features.append(InvertedResidual(input_channel, output_channel, stride, expand_ratio=t))
                input_channel = output_channel
        features.append(ConvNormActivation(input_channel, self.last_channel, kernel_size=1, act=nn.ReLU6))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2), nn.Linear(self.last_channel, num_classes))

    def _forward_impl(self, x: Tensor) -> Tensor:
        x = self.features(x)
        # Cannot use "squeeze" as batch-size can be 1
        x = nn.functional.adaptive_avg_pool2d(x, (1, 1))
        x = torch.flatten(x, 1)
        x = self.classifier(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self._forward_impl(x)


# MobileNetV3 (arXiv:1905.02244)


class SqueezeExcitation(nn.Module):
    def __init__(self, input_channels, squeeze_channels, activation=nn.ReLU, scale_activation=nn.Sigmoid):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(input_channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, input_channels, 1)
        self.activation = activation()
        self.scale_activation = scale_activation()

    def _scale(self, x: Tensor) -> Tensor:
        scale = self.avgpool(x)
        scale = self.fc1(scale)
        scale = self.activation(scale)
        scale = self.fc2(scale)
        return self.scale_activation(scale)

    def forward(self, x: Tensor) -> Tensor:
        scale = self._scale(x)
        return scale * x


class V3Block(nn.Module):
    def __init__(self, inp, kernel, expanded, out, use_se, activation, stride):
        super().__init__()
        self.use_res_connect = stride == 1 and inp == out
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        act = nn.Hardswish if activation == "HS" else nn.ReLU
        layers = []
        if expanded != inp:
            layers.append(ConvNormActivation(inp, expanded, kernel_size=1, norm=norm, act=act))
        layers.append(ConvNormActivation(expanded, expanded, kernel, stride, groups=expanded, norm=norm, act=act))
        if use_se:
            squeeze = _make_divisible(expanded // 4, 8)
            layers.append(SqueezeExcitation(expanded, squeeze, scale_activation=nn.Hardsigmoid))
        layers.append(ConvNormActivation(expanded, out, kernel_size=1, norm=norm, act=None))
        self.block = nn.Sequential(*layers)

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result += input
        return result


V3_SMALL = [  # kernel, expanded, out, SE, activation, stride
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
]
V3_LARGE = [
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
]


class MobileNetV3(nn.Module):
    def __init__(self, setting, last_channel, num_classes=1000):
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        layers = [ConvNormActivation(3, 16, 3, 2, norm=norm, act=nn.Hardswish)]
        inp = 16
        for kernel, expanded, out, use_se, activation, stride in setting:
            layers.append(V3Block(inp, kernel, expanded, out, use_se, activation, stride))
            inp = out
        layers.append(ConvNormActivation(inp, 6 * inp, kernel_size=1, norm=norm, act=nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(6 * inp, last_channel),
            nn.Hardswish(inplace=True),
            nn.Dropout(p=0.2, inplace=True),
            nn.Linear(last_channel, num_classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.classifier(x)
        return x


# EfficientNet (arXiv:1905.11946), with stochastic depth (arXiv:1603.09382)


def stochastic_depth(input: Tensor, p: float, mode: str, training: bool = True) -> Tensor:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"drop probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input
    survival_rate = 1.0 - p
    size = [input.shape[0]] + [1] * (input.ndim - 1) if mode == "row" else [1] * input.ndim
    noise = torch.empty(size, dtype=input.dtype, device=input.device)
    noise = noise.bernoulli_(survival_rate)
    if survival_rate > 0.0:
        noise.div_(survival_rate)
    return input * noise


class StochasticDepth(nn.Module):
    def __init__(self, p: float, mode: str) -> None:
        super().__init__()
        self.p = p
        self.mode = mode

    def forward(self, input: Tensor) -> Tensor:
        return stochastic_depth(input, self.p, self.mode, self.training)


class MBConv(nn.Module):
    def __init__(self, inp, out, expand_ratio, kernel, stride, drop, norm=nn.BatchNorm2d, fused=False):
        super().__init__()
        self.use_res_connect = stride == 1 and inp == out
        layers = []
        expanded = _make_divisible(inp * expand_ratio, 8)
        if fused:
            layers.append(ConvNormActivation(inp, expanded, kernel, stride, norm=norm, act=nn.SiLU))
        else:
            if expanded != inp:
                layers.append(ConvNormActivation(inp, expanded, kernel_size=1, norm=norm, act=nn.SiLU))
            layers.append(ConvNormActivation(expanded, expanded, kernel, stride, expanded, norm=norm, act=nn.SiLU))
            layers.append(SqueezeExcitation(expanded, max(1, inp // 4), activation=partial(nn.SiLU, inplace=True)))
        layers.append(ConvNormActivation(expanded, out, kernel_size=1, norm=norm, act=None))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop, "row")

    def forward(self, input: Tensor) -> Tensor:
        result = self.block(input)
        if self.use_res_connect:
            result = self.stochastic_depth(result)
            result += input
        return result


B0 = [(1, 3, 1, 32, 16, 1), (6, 3, 2, 16, 24, 2), (6, 5, 2, 24, 40, 2), (6, 3, 2, 40, 80, 3), (6, 5, 1, 80, 112, 3)]
B0 += [(6, 5, 2, 112, 192, 4), (6, 3, 1, 192, 320, 1)]  # expansion, kernel, stride, in, out, layers


class EfficientNet(nn.Module):
    def __init__(self, setting, num_classes=1000, last=1280, fused=0):
        super().__init__()
        layers = [ConvNormActivation(3, setting[0][3], 3, 2, act=nn.SiLU)]
        total, done = sum(row[-1] for row in setting), 0
        for i, (ratio, kernel, stride, inp, out, depth) in enumerate(setting):
            stage = []
            for _ in range(depth):
                drop = 0.2 * float(done) / total
                stage.append(MBConv(inp, out, ratio, kernel, stride, drop, fused=i < fused))
                inp, stride = out, 1
                done += 1
            layers.append(nn.Sequential(*stage))
        layers.append(ConvNormActivation(inp, last, kernel_size=1, act=nn.SiLU))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(last, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        return self.classifier(x)


# ConvNeXt-T (arXiv:2201.03545): LayerNorm over channels by two permutes, LayerScale


class LayerNorm2d(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        x = x.permute(0, 3, 1, 2)
        return x


class Permute(nn.Module):
    def __init__(self, dims):
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return torch.permute(x, self.dims)


class CNBlock(nn.Module):
    def __init__(self, dim, drop):
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size=7, padding=3, groups=dim, bias=True),
            Permute([0, 2, 3, 1]),
            nn.LayerNorm(dim, eps=1e-6),
            nn.Linear(in_features=dim, out_features=4 * dim, bias=True),
            nn.GELU(),
            nn.Linear(in_features=4 * dim, out_features=dim, bias=True),
            Permute([0, 3, 1, 2]),
        )
        self.layer_scale = nn.Parameter(torch.ones(dim, 1, 1) * 1e-6)
        self.stochastic_depth = StochasticDepth(drop, "row")

    def forward(self, input: Tensor) -> Tensor:
        result = self.layer_scale * self.block(input)
        result = self.stochastic_depth(result)
        result += input
        return result


class ConvNeXt(nn.Module):
    def __init__(self, dims, depths, num_classes=1000):
        super().__init__()
        layers = [nn.Sequential(nn.Conv2d(3, dims[0], kernel_size=4, stride=4), LayerNorm2d(dims[0], eps=1e-6))]
        total, done = sum(depths), 0
        for i, depth in enumerate(depths):
            stage = []
            for _ in range(depth):
                stage.append(CNBlock(dims[i], 0.1 * done / (total - 1.0)))
                done += 1
            layers.append(nn.Sequential(*stage))
            if i + 1 < len(dims):
                norm = LayerNorm2d(dims[i], eps=1e-6)
                layers.append(nn.Sequential(norm, nn.Conv2d(dims[i], dims[i + 1], kernel_size=2, stride=2)))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        norm = LayerNorm2d(dims[-1], eps=1e-6)
        self.classifier = nn.Sequential(norm, nn.Flatten(1), nn.Linear(dims[-1], num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)))


GREY = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 2, 2], [6, 64, 2, 2], [6, 96, 1, 1]]
V2S = [(1, 3, 1, 8, 8, 1), (4, 3, 2, 8, 16, 2), (4, 3, 2, 16, 24, 2), (6, 3, 1, 24, 32, 2)]

mobile = partial(Fixture, family="mobile")
NETWORKS = {
    "mobilenet_v2": mobile(MobileNetV2, image(3, 64), named=True, small=False, n_params=3_504_872),
    "mobilenet_v2_grey": mobile(
        lambda: MobileNetV2(10, 0.5, GREY, channels=1, stem_stride=1, last=128), image(1, 28, batch=2), named=True
    ),
    "mobilenet_v3_small": mobile(
        lambda: MobileNetV3(V3_SMALL, 1024), image(3, 64), named=True, small=False, n_params=2_542_856
    ),
    "mobilenet_v3_large": mobile(
        lambda: MobileNetV3(V3_LARGE, 1280), image(3, 64), named=True, small=False, n_params=5_483_032
    ),
    "efficientnet_b0": mobile(lambda: EfficientNet(B0), image(3, 64), named=True, small=False, n_params=5_288_548),
    "efficientnet_v2_like": mobile(lambda: EfficientNet(V2S, 10, last=64, fused=2), image(3, 32)),
    "convnext_tiny": mobile(
        lambda: ConvNeXt([96, 192, 384, 768], [3, 3, 9, 3]), image(3, 64), named=True, small=False, n_params=28_589_128
    ),
    "convnext_like": mobile(lambda: ConvNeXt([16, 32], [1, 2], num_classes=10), image(3, 32)),
}
