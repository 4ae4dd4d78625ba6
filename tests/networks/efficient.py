"""Networks for small devices, and networks that are trained with branches and run without."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image

# MobileNet (arXiv:1704.04861) by two functions


class MobileNet(nn.Module):
    def __init__(self, alpha=0.25):
        super().__init__()

        def conv_bn(inp, oup, stride):
            return nn.Sequential(nn.Conv2d(inp, oup, 3, stride, 1, bias=False), nn.BatchNorm2d(oup), nn.ReLU())

        def conv_dw(inp, oup, stride):
            return nn.Sequential(
                nn.Conv2d(inp, inp, 3, stride, 1, groups=inp, bias=False),
                nn.BatchNorm2d(inp),
                nn.ReLU(inplace=True),
                nn.Conv2d(inp, oup, 1, 1, 0, bias=False),
                nn.BatchNorm2d(oup),
                nn.ReLU(inplace=True),
            )

        c = [int(alpha * width) for width in (32, 64, 128, 256)]
        self.model = nn.Sequential(
            conv_bn(3, c[0], 2), conv_dw(c[0], c[1], 1), conv_dw(c[1], c[2], 2), conv_dw(c[2], c[3], 2), nn.AvgPool2d(4)
        )
        self.last = c[3]
        self.fc = nn.Linear(c[3], 10)

    def forward(self, x):
        x = self.model(x)
        x = x.view(-1, self.last)
        return self.fc(x)


# MnasNet (arXiv:1807.11626): stacks of residual bottlenecks, the head by mean([2, 3])

_BN_MOMENTUM = 1 - 0.9997


class MnasResidual(nn.Module):
    def __init__(self, in_ch, out_ch, kernel_size, stride, expansion_factor):
        super().__init__()
        mid_ch = in_ch * expansion_factor
        self.apply_residual = in_ch == out_ch and stride == 1
        self.layers = nn.Sequential(
            nn.Conv2d(in_ch, mid_ch, 1, bias=False),
            nn.BatchNorm2d(mid_ch, momentum=_BN_MOMENTUM),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_ch, mid_ch, kernel_size, padding=kernel_size // 2, stride=stride, groups=mid_ch, bias=False),
            nn.BatchNorm2d(mid_ch, momentum=_BN_MOMENTUM),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_ch, out_ch, 1, bias=False),
            nn.BatchNorm2d(out_ch, momentum=_BN_MOMENTUM),
        )

    def forward(self, input):
        if self.apply_residual:
            return self.layers(input) + input
        else:
            return self.layers(input)


class MNASNet(nn.Module):
    def __init__(self, num_classes=1000):
        super().__init__()

        def stack(in_ch, out_ch, kernel_size, stride, exp_factor, repeats):
            first = MnasResidual(in_ch, out_ch, kernel_size, stride, exp_factor)
            rest = [MnasResidual(out_ch, out_ch, kernel_size, 1, exp_factor) for _ in range(1, repeats)]
            return nn.Sequential(first, *rest)

        def norm(channels):
            return nn.BatchNorm2d(channels, momentum=_BN_MOMENTUM)

        self.layers = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1, stride=2, bias=False),
            norm(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1, stride=1, groups=32, bias=False),
            norm(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 16, 1, padding=0, stride=1, bias=False),
            norm(16),
            stack(16, 24, 3, 2, 3, 3),
            stack(24, 40, 5, 2, 3, 3),
            stack(40, 80, 5, 2, 6, 3),
            stack(80, 96, 3, 1, 6, 2),
            stack(96, 192, 5, 2, 6, 4),
            stack(192, 320, 3, 1, 6, 1),
            nn.Conv2d(320, 1280, 1, padding=0, stride=1, bias=False),
            norm(1280),
            nn.ReLU(inplace=True),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.2, inplace=True), nn.Linear(1280, num_classes))

    def forward(self, x):
        x = self.layers(x)
        # Equivalent to global avgpool and removing H and W dimensions.
        x = x.mean([2, 3])
        return self.classifier(x)


# ShuffleNet (arXiv:1707.01083): grouped convolutions, a shuffle by view and transpose, a pooled shortcut concatenated


def channel_shuffle(x, groups):
    batchsize, num_channels, height, width = x.size()
    channels_per_group = num_channels // groups
    x = x.view(batchsize, groups, channels_per_group, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    x = x.view(batchsize, num_channels, height, width)
    return x


class ShuffleUnit(nn.Module):
    def __init__(self, in_planes, out_planes, stride, groups):
        super().__init__()
        self.stride = stride
        mid_planes = out_planes // 4
        out_planes = out_planes - in_planes if stride == 2 else out_planes
        self.g = 1 if in_planes == 24 else groups
        self.conv1 = nn.Conv2d(in_planes, mid_planes, kernel_size=1, groups=self.g, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_planes)
        self.conv2 = nn.Conv2d(mid_planes, mid_planes, 3, stride=stride, padding=1, groups=mid_planes, bias=False)
        self.bn2 = nn.BatchNorm2d(mid_planes)
        self.conv3 = nn.Conv2d(mid_planes, out_planes, kernel_size=1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(out_planes)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut = nn.Sequential(nn.AvgPool2d(3, stride=2, padding=1))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        if self.g > 1:
            out = channel_shuffle(out, self.g)
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out))
        res = self.shortcut(x)
        return F.relu(torch.cat([out, res], 1)) if self.stride == 2 else F.relu(out + res)


class ShuffleNet(nn.Module):
    def __init__(self, groups=2):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(24)
        self.layer1 = nn.Sequential(ShuffleUnit(24, 56, 2, groups), ShuffleUnit(56, 56, 1, groups))
        self.layer2 = nn.Sequential(ShuffleUnit(56, 112, 2, groups), ShuffleUnit(112, 112, 1, groups))
        self.linear = nn.Linear(112, 10)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer2(self.layer1(out))
        out = F.avg_pool2d(out, 4)
        out = out.view(out.size(0), -1)
        return self.linear(out)


# ShuffleNet V2 (arXiv:1807.11164): chunk, work on one half, concatenate, shuffle


class ShuffleV2Residual(nn.Module):
    def __init__(self, inp, oup, stride):
        super().__init__()
        self.stride = stride
        branch_features = oup // 2
        if self.stride > 1:
            self.branch1 = nn.Sequential(
                self.depthwise_conv(inp, inp, kernel_size=3, stride=self.stride, padding=1),
                nn.BatchNorm2d(inp),
                nn.Conv2d(inp, branch_features, kernel_size=1, stride=1, padding=0, bias=False),
                nn.BatchNorm2d(branch_features),
                nn.ReLU(inplace=True),
            )
        else:
            self.branch1 = nn.Sequential()
        self.branch2 = nn.Sequential(
            nn.Conv2d(inp if self.stride > 1 else branch_features, branch_features, kernel_size=1, bias=False),
            nn.BatchNorm2d(branch_features),
            nn.ReLU(inplace=True),
            self.depthwise_conv(branch_features, branch_features, kernel_size=3, stride=self.stride, padding=1),
            nn.BatchNorm2d(branch_features),
            nn.Conv2d(branch_features, branch_features, kernel_size=1, stride=1, padding=0, bias=False),
            nn.BatchNorm2d(branch_features),
            nn.ReLU(inplace=True),
        )

    @staticmethod
    def depthwise_conv(i, o, kernel_size, stride=1, padding=0, bias=False):
        return nn.Conv2d(i, o, kernel_size, stride, padding, bias=bias, groups=i)

    def forward(self, x):
        if self.stride == 1:
            x1, x2 = x.chunk(2, dim=1)
            out = torch.cat((x1, self.branch2(x2)), dim=1)
        else:
            out = torch.cat((self.branch1(x), self.branch2(x)), dim=1)
        return channel_shuffle(out, 2)


class ShuffleNetV2(nn.Module):
    def __init__(self, stages_repeats=(4, 8, 4), channels=(24, 116, 232, 464, 1024), num_classes=1000):
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, channels[0], 3, 2, 1, bias=False), nn.BatchNorm2d(channels[0]), nn.ReLU(inplace=True)
        )
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        inp = channels[0]
        for i, (repeats, oup) in enumerate(zip(stages_repeats, channels[1:-1], strict=True)):
            seq = [ShuffleV2Residual(inp, oup, 2)]
            for _ in range(repeats - 1):
                seq.append(ShuffleV2Residual(oup, oup, 1))
            setattr(self, f"stage{i + 2}", nn.Sequential(*seq))
            inp = oup
        self.conv5 = nn.Sequential(
            nn.Conv2d(inp, channels[-1], 1, 1, 0, bias=False), nn.BatchNorm2d(channels[-1]), nn.ReLU(inplace=True)
        )
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x):
        x = self.conv1(x)
        x = self.maxpool(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = self.stage4(x)
        x = self.conv5(x)
        x = x.mean([2, 3])  # globalpool
        x = self.fc(x)
        return x


# GhostNet (arXiv:1911.11907): cheap features concatenated and cut off at the wanted number


def hard_sigmoid(x, inplace: bool = False):
    if inplace:
        return x.add_(3.0).clamp_(0.0, 6.0).div_(6.0)
    else:
        return F.relu6(x + 3.0) / 6.0


class GhostModule(nn.Module):
    def __init__(self, inp, oup, kernel_size=1, ratio=2, dw_size=3, relu=True):
        super().__init__()
        self.oup = oup
        init_channels = math.ceil(oup / ratio)
        new_channels = init_channels * (ratio - 1)
        self.primary_conv = nn.Sequential(
            nn.Conv2d(inp, init_channels, kernel_size, 1, kernel_size // 2, bias=False),
            nn.BatchNorm2d(init_channels),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(init_channels, new_channels, dw_size, 1, dw_size // 2, groups=init_channels, bias=False),
            nn.BatchNorm2d(new_channels),
            nn.ReLU(inplace=True) if relu else nn.Sequential(),
        )

    def forward(self, x):
        x1 = self.primary_conv(x)
        x2 = self.cheap_operation(x1)
        out = torch.cat([x1, x2], dim=1)
        return out[:, : self.oup, :, :]


class GhostSE(nn.Module):
    def __init__(self, in_chs, reduced_chs):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_reduce = nn.Conv2d(in_chs, reduced_chs, 1, bias=True)
        self.act1 = nn.ReLU(inplace=True)
        self.conv_expand = nn.Conv2d(reduced_chs, in_chs, 1, bias=True)

    def forward(self, x):
        x_se = self.avg_pool(x)
        x_se = self.conv_reduce(x_se)
        x_se = self.act1(x_se)
        x_se = self.conv_expand(x_se)
        x = x * hard_sigmoid(x_se, inplace=True)
        return x


class GhostBottleneck(nn.Module):
    def __init__(self, in_chs, mid_chs, out_chs, stride=1, se=False):
        super().__init__()
        self.stride = stride
        self.ghost1 = GhostModule(in_chs, mid_chs, relu=True)
        if self.stride > 1:
            self.conv_dw = nn.Conv2d(mid_chs, mid_chs, 3, stride=stride, padding=1, groups=mid_chs, bias=False)
            self.bn_dw = nn.BatchNorm2d(mid_chs)
        self.se = GhostSE(mid_chs, 8) if se else None
        self.ghost2 = GhostModule(mid_chs, out_chs, relu=False)
        if in_chs == out_chs and self.stride == 1:
            self.shortcut = nn.Sequential()
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_chs, in_chs, 3, stride=stride, padding=1, groups=in_chs, bias=False),
                nn.BatchNorm2d(in_chs),
                nn.Conv2d(in_chs, out_chs, 1, stride=1, padding=0, bias=False),
                nn.BatchNorm2d(out_chs),
            )

    def forward(self, x):
        residual = x
        x = self.ghost1(x)
        if self.stride > 1:
            x = self.conv_dw(x)
            x = self.bn_dw(x)
        if self.se is not None:
            x = self.se(x)
        x = self.ghost2(x)
        x += self.shortcut(residual)
        return x


class GhostNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.blocks = nn.Sequential(
            GhostBottleneck(16, 15, 16), GhostBottleneck(16, 31, 24, 2, se=True), GhostBottleneck(24, 36, 24, se=True)
        )
        self.global_pool = nn.AdaptiveAvgPool2d((1, 1))
        self.conv_head = nn.Conv2d(24, 48, 1, 1, 0, bias=True)
        self.classifier = nn.Linear(48, 10)
        self.dropout = 0.2

    def forward(self, x):
        x = self.blocks(F.relu(self.conv_stem(x)))
        x = F.relu(self.conv_head(self.global_pool(x)), inplace=True)
        x = x.view(x.size(0), -1)
        if self.dropout > 0.0:
            x = F.dropout(x, p=self.dropout, training=self.training)
        return self.classifier(x)


# RegNetY-400MF (arXiv:2003.13678): groups of a fixed width, gates, stages with names


class RegNetBlock(nn.Module):
    def __init__(self, width_in, width_out, stride, group_width, se_ratio=0.25):
        super().__init__()
        self.proj = None
        if width_in != width_out or stride != 1:
            self.proj = nn.Sequential(
                nn.Conv2d(width_in, width_out, 1, stride, bias=False), nn.BatchNorm2d(width_out, eps=1e-5, momentum=0.1)
            )
        squeeze = round(se_ratio * width_in)
        self.f = nn.Sequential()
        self.f.add_module("a", nn.Sequential(*self.norm(nn.Conv2d(width_in, width_out, 1, bias=False))))
        conv = nn.Conv2d(width_out, width_out, 3, stride, 1, groups=width_out // group_width, bias=False)
        self.f.add_module("b", nn.Sequential(*self.norm(conv)))
        self.f.add_module("se", RegNetSE(width_out, squeeze))
        self.f.add_module("c", nn.Sequential(*self.norm(nn.Conv2d(width_out, width_out, 1, bias=False))[:2]))
        self.activation = nn.ReLU(inplace=True)

    @staticmethod
    def norm(conv):
        return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]

    def forward(self, x):
        x = self.proj(x) + self.f(x) if self.proj is not None else x + self.f(x)
        return self.activation(x)


class RegNetSE(nn.Module):
    def __init__(self, channels, squeeze):
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeeze, 1)
        self.fc2 = nn.Conv2d(squeeze, channels, 1)

    def forward(self, x):
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(self.avgpool(x)))))
        return scale * x


class RegNet(nn.Module):
    def __init__(self, widths=(48, 104, 208, 440), depths=(1, 3, 6, 6), group_width=8, num_classes=1000):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True))
        current, blocks = 32, []
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stage = nn.Sequential()
            for j in range(depth):
                stage.add_module(
                    f"block{i + 1}-{j}", RegNetBlock(current if j == 0 else width, width, 1 + (j == 0), group_width)
                )
            blocks.append((f"block{i + 1}", stage))
            current = width
        self.trunk_output = nn.Sequential()
        for name, stage in blocks:
            self.trunk_output.add_module(name, stage)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(in_features=current, out_features=num_classes)

    def forward(self, x):
        x = self.stem(x)
        x = self.trunk_output(x)
        x = self.avgpool(x)
        x = x.flatten(start_dim=1)
        return self.fc(x)


# RepVGG (arXiv:2101.03697): 3x3, 1x1 and identity with a norm of their own, summed


class RepVGGBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__()
        self.nonlinearity = nn.ReLU()
        self.se = nn.Identity()
        same = out_channels == in_channels and stride == 1
        self.rbr_identity = nn.BatchNorm2d(num_features=in_channels) if same else None
        self.rbr_dense = self.conv_bn(in_channels, out_channels, 3, stride, 1)
        self.rbr_1x1 = self.conv_bn(in_channels, out_channels, 1, stride, 0)

    @staticmethod
    def conv_bn(in_channels, out_channels, kernel_size, stride, padding):
        result = nn.Sequential()
        result.add_module("conv", nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False))
        result.add_module("bn", nn.BatchNorm2d(num_features=out_channels))
        return result

    def forward(self, inputs):
        if hasattr(self, "rbr_reparam"):
            return self.nonlinearity(self.se(self.rbr_reparam(inputs)))
        id_out = 0 if self.rbr_identity is None else self.rbr_identity(inputs)
        return self.nonlinearity(self.se(self.rbr_dense(inputs) + self.rbr_1x1(inputs) + id_out))


class RepVGG(nn.Module):
    def __init__(self):
        super().__init__()
        self.stage0 = RepVGGBlock(3, 16, stride=2)
        self.stage1 = nn.Sequential(RepVGGBlock(16, 24, 2), RepVGGBlock(24, 24))
        self.stage2 = nn.ModuleList([RepVGGBlock(24, 32, 2), RepVGGBlock(32, 32)])
        self.gap = nn.AdaptiveAvgPool2d(output_size=1)
        self.linear = nn.Linear(32, 10)

    def forward(self, x):
        out = self.stage0(x)
        for stage in (self.stage1, self.stage2):
            for block in stage:
                out = block(out)
        out = self.gap(out)
        out = out.view(out.size(0), -1)
        return self.linear(out)


# MobileOne (arXiv:2206.04040): several equal branches in a loop


class MobileOneBlock(nn.Module):
    def __init__(self, inp, out, kernel, stride=1, groups=1, branches=2):
        super().__init__()
        self.num_conv_branches = branches
        self.rbr_skip = nn.BatchNorm2d(inp) if out == inp and stride == 1 else None
        self.rbr_conv = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Conv2d(inp, out, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(out)
                )
                for _ in range(branches)
            ]
        )
        self.rbr_scale = None
        if kernel > 1:
            conv = nn.Conv2d(inp, out, 1, stride, groups=groups, bias=False)
            self.rbr_scale = nn.Sequential(conv, nn.BatchNorm2d(out))
        self.activation = nn.ReLU()

    def forward(self, x):
        identity_out = 0
        if self.rbr_skip is not None:
            identity_out = self.rbr_skip(x)
        scale_out = 0
        if self.rbr_scale is not None:
            scale_out = self.rbr_scale(x)
        out = scale_out + identity_out
        for ix in range(self.num_conv_branches):
            out += self.rbr_conv[ix](x)
        return self.activation(out)


class MobileOne(nn.Sequential):
    def __init__(self):
        super().__init__(
            MobileOneBlock(3, 16, 3, 2),
            MobileOneBlock(16, 16, 3, 2, groups=16),
            MobileOneBlock(16, 24, 1),
            MobileOneBlock(24, 24, 3, groups=24),
            MobileOneBlock(24, 24, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 10),
        )


efficient = partial(Fixture, family="efficient")
SHUFFLE = dict(stages_repeats=(2, 2, 1), channels=(8, 16, 32, 48, 64), num_classes=10)
NETWORKS = {
    "mobilenet_v1": efficient(MobileNet, image(3, 32)),
    "mnasnet1_0": efficient(MNASNet, image(3, 64), small=False, n_params=4_383_312),
    "shufflenet_v1": efficient(ShuffleNet, image(3, 16)),
    "shufflenet_v2_x1_0": efficient(ShuffleNetV2, image(3, 64), small=False, n_params=2_278_604),
    "shufflenet_v2_narrow": efficient(lambda: ShuffleNetV2(**SHUFFLE), image(3, 64, batch=2)),
    "ghostnet_like": efficient(GhostNet, image(3, 32)),
    "regnet_y_400mf": efficient(RegNet, image(3, 64), small=False, n_params=4_344_144),
    "repvgg": efficient(RepVGG, image(3, 32)),
    "mobileone_like": efficient(MobileOne, image(3, 16)),
}
