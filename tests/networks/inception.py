"""The Inception family: branches joined by concatenation, kernels of every form."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image

# GoogLeNet (arXiv:1409.4842) and Inception-v3 (arXiv:1512.00567), torchvision's manner


class BasicConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, **kwargs):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, bias=False, **kwargs)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        x = self.conv(x)
        x = self.bn(x)
        return F.relu(x, inplace=True)


class Inception(nn.Module):
    def __init__(self, in_channels, ch1x1, ch3x3red, ch3x3, ch5x5red, ch5x5, pool_proj):
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, ch1x1, kernel_size=1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, ch3x3red, kernel_size=1), BasicConv2d(ch3x3red, ch3x3, kernel_size=3, padding=1)
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, ch5x5red, kernel_size=1), BasicConv2d(ch5x5red, ch5x5, kernel_size=3, padding=1)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(kernel_size=3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, pool_proj, kernel_size=1),
        )

    def _forward(self, x):
        branch1 = self.branch1(x)
        branch2 = self.branch2(x)
        branch3 = self.branch3(x)
        branch4 = self.branch4(x)
        outputs = [branch1, branch2, branch3, branch4]
        return outputs

    def forward(self, x):
        outputs = self._forward(x)
        return torch.cat(outputs, 1)


class GoogLeNet(nn.Module):
    def __init__(self, num_classes=1000, transform_input=True):
        super().__init__()
        self.transform_input = transform_input
        self.conv1 = BasicConv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, kernel_size=1)
        self.conv3 = BasicConv2d(64, 192, kernel_size=3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(1024, num_classes)

    def _transform_input(self, x):
        if self.transform_input:
            x_ch0 = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
            x_ch1 = torch.unsqueeze(x[:, 1], 1) * (0.224 / 0.5) + (0.456 - 0.5) / 0.5
            x_ch2 = torch.unsqueeze(x[:, 2], 1) * (0.225 / 0.5) + (0.406 - 0.5) / 0.5
            x = torch.cat((x_ch0, x_ch1, x_ch2), 1)
        return x

    def forward(self, x):
        x = self._transform_input(x)
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        x = self.inception4c(self.inception4b(self.inception4a(x)))
        x = self.maxpool4(self.inception4e(self.inception4d(x)))
        x = self.inception5b(self.inception5a(x))
        x = self.avgpool(x)
        x = torch.flatten(x, 1)
        x = self.dropout(x)
        return self.fc(x)


class InceptionA(nn.Module):
    """Double 3x3 and a mean pooling that counts its padding."""

    def __init__(self, inp, n):
        super().__init__()
        self.branch1x1 = BasicConv2d(inp, 2 * n, kernel_size=1)
        self.branch5x5_1 = BasicConv2d(inp, n, kernel_size=1)
        self.branch5x5_2 = BasicConv2d(n, 2 * n, kernel_size=5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(inp, 2 * n, kernel_size=1)
        self.branch3x3dbl_2 = BasicConv2d(2 * n, 3 * n, kernel_size=3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(3 * n, 3 * n, kernel_size=3, padding=1)
        self.branch_pool = BasicConv2d(inp, n, kernel_size=1)

    def forward(self, x):
        branch1x1 = self.branch1x1(x)
        branch5x5 = self.branch5x5_2(self.branch5x5_1(x))
        branch3x3dbl = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        branch_pool = self.branch_pool(F.avg_pool2d(x, kernel_size=3, stride=1, padding=1))
        return torch.cat([branch1x1, branch5x5, branch3x3dbl, branch_pool], 1)


class InceptionC(nn.Module):
    """A 7x7 in two strips."""

    def __init__(self, inp, out, c7):
        super().__init__()
        self.branch1x1 = BasicConv2d(inp, out, kernel_size=1)
        self.branch7x7_1 = BasicConv2d(inp, c7, kernel_size=1)
        self.branch7x7_2 = BasicConv2d(c7, c7, kernel_size=(1, 7), padding=(0, 3))
        self.branch7x7_3 = BasicConv2d(c7, out, kernel_size=(7, 1), padding=(3, 0))
        self.branch_pool = BasicConv2d(inp, out, kernel_size=1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x):
        branch7x7 = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        return torch.cat([self.branch1x1(x), branch7x7, self.branch_pool(self.pool(x))], 1)


class InceptionE(nn.Module):
    """A cat within a cat, a max pooling as branch."""

    def __init__(self, inp, n):
        super().__init__()
        self.branch3x3_1 = BasicConv2d(inp, n, kernel_size=1)
        self.branch3x3_2a = BasicConv2d(n, n, kernel_size=(1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(n, n, kernel_size=(3, 1), padding=(1, 0))
        self.reduce = BasicConv2d((2 * n + inp) // 2, n, kernel_size=3, stride=2)

    def forward(self, x):
        branch3x3 = self.branch3x3_1(x)
        branch3x3 = [self.branch3x3_2a(branch3x3), self.branch3x3_2b(branch3x3)]
        branch3x3 = torch.cat(branch3x3, 1)
        branch_pool = F.max_pool2d(x, kernel_size=3, stride=1, padding=1)
        x = torch.cat([branch3x3, branch_pool], dim=1)
        return torch.cat([self.reduce(x[:, : x.size(1) // 2]), F.max_pool2d(x, kernel_size=3, stride=2)], 1)


class InceptionV3Like(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 16, kernel_size=3, stride=2)
        self.Mixed_5b = InceptionA(16, 8)
        self.Mixed_6a = InceptionC(64, 12, 10)
        self.Mixed_7a = InceptionE(36, 14)
        self.fc = nn.Linear(14 + 64, num_classes)

    def forward(self, x):
        x = self.Mixed_7a(self.Mixed_6a(self.Mixed_5b(self.Conv2d_1a_3x3(x))))
        x = F.adaptive_avg_pool2d(x, output_size=1).squeeze(-1).squeeze(-1)
        x = F.dropout(x, training=self.training)
        return self.fc(x)


class InceptionResNetBlock(nn.Module):
    """Inception-ResNet (arXiv:1602.07261): a branched residual, scaled by a constant before it is added."""

    def __init__(self, channels, scale=0.17, no_relu=False):
        super().__init__()
        self.scale = scale
        self.branch_0 = BasicConv2d(channels, 8, kernel_size=1)
        self.branch_1 = nn.Sequential(
            BasicConv2d(channels, 8, kernel_size=1), BasicConv2d(8, 12, kernel_size=(1, 3), padding=(0, 1))
        )
        self.conv2d = nn.Conv2d(20, channels, kernel_size=1, stride=1)
        self.relu = None if no_relu else nn.ReLU(inplace=False)

    def forward(self, x):
        out = torch.cat((self.branch_0(x), self.branch_1(x)), 1)
        out = self.conv2d(out)
        out = out * self.scale + x
        if self.relu is not None:
            out = self.relu(out)
        return out


class InceptionResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = BasicConv2d(3, 24, kernel_size=3, stride=2)
        self.repeat = nn.Sequential(InceptionResNetBlock(24, 0.17), InceptionResNetBlock(24, 0.1))
        self.block8 = InceptionResNetBlock(24, 1.0, no_relu=True)
        self.avgpool_1a = nn.AvgPool2d(15, count_include_pad=False)
        self.last_linear = nn.Linear(24, 10)

    def forward(self, input):
        x = self.block8(self.repeat(self.stem(input)))
        x = self.avgpool_1a(x)
        x = x.view(x.size(0), -1)
        return self.last_linear(x)


# Xception (arXiv:1610.02357): separable convolutions, lists popped from and inserted into


class SeparableConv2d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=1, stride=1, padding=0, dilation=1, bias=False):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, kernel_size, stride, padding, dilation, in_channels, bias)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, 1, 0, 1, 1, bias=bias)

    def forward(self, x):
        return self.pointwise(self.conv1(x))


class XceptionBlock(nn.Module):
    def __init__(self, in_filters, out_filters, reps, strides=1, start_with_relu=True):
        super().__init__()
        self.skip = None
        if out_filters != in_filters or strides != 1:
            self.skip = nn.Conv2d(in_filters, out_filters, 1, stride=strides, bias=False)
            self.skipbn = nn.BatchNorm2d(out_filters)
        rep = []
        for i in range(reps):
            inp = in_filters if i == 0 else out_filters
            rep += [
                nn.ReLU(inplace=i > 0),
                SeparableConv2d(inp, out_filters, 3, padding=1),
                nn.BatchNorm2d(out_filters),
            ]
        if not start_with_relu:
            rep = rep[1:]
        if strides != 1:
            rep.append(nn.MaxPool2d(3, strides, 1))
        self.rep = nn.Sequential(*rep)

    def forward(self, inp):
        x = self.rep(inp)
        if self.skip is not None:
            skip = self.skip(inp)
            skip = self.skipbn(skip)
        else:
            skip = inp
        x += skip
        return x


class Xception(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, 2, 0, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.block1 = XceptionBlock(12, 24, 2, 2, start_with_relu=False)
        self.block2 = XceptionBlock(24, 24, 3)
        self.conv4 = SeparableConv2d(24, 48, 3, 1, 1)
        self.bn4 = nn.BatchNorm2d(48)
        self.fc = nn.Linear(48, 10)

    def features(self, input):
        x = F.relu(self.bn1(self.conv1(input)))
        x = self.block2(self.block1(x))
        return self.bn4(self.conv4(x))

    def logits(self, features):
        x = F.relu_(features)
        x = F.adaptive_avg_pool2d(x, (1, 1))
        x = x.view(x.size(0), -1)
        return self.fc(x)

    def forward(self, input):
        return self.logits(self.features(input))


inception = partial(Fixture, family="inception")
NETWORKS = {
    "googlenet": inception(GoogLeNet, image(3, 64), small=False, n_params=6_624_904),
    "inception_v3_like": inception(InceptionV3Like, image(3, 32)),
    "inception_resnet_like": inception(InceptionResNet, image(3, 32)),
    "xception_like": inception(Xception, image(3, 32)),
}
