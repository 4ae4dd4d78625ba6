"""Networks for small devices, and networks that are trained with branches and run without."""

from __future__ import annotations

from functools import partial

import torch
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
NETWORKS = {
    "mobilenet_v1": efficient(MobileNet, image(3, 32)),
    "mnasnet1_0": efficient(MNASNet, image(3, 64), small=False, n_params=4_383_312),
    "regnet_y_400mf": efficient(RegNet, image(3, 64), small=False, n_params=4_344_144),
    "repvgg": efficient(RepVGG, image(3, 32)),
    "mobileone_like": efficient(MobileOne, image(3, 16)),
}
