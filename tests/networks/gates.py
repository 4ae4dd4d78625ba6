"""Networks with gates over channels, space or branches, each gate spelled as in its own repository."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import init

from tests.networks.fixture import Fixture, image

# Squeeze-and-excitation (arXiv:1709.01507) in six spellings


class SELayer(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SEConv(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // reduction, kernel_size=1, padding=0)
        self.relu = nn.ReLU(inplace=True)
        self.fc2 = nn.Conv2d(channels // reduction, channels, kernel_size=1, padding=0)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        module_input = x
        x = x.mean((2, 3), keepdim=True)
        x = self.sigmoid(self.fc2(self.relu(self.fc1(x))))
        return module_input * x


class SEHardSigmoid(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.expand = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        out = F.avg_pool2d(x, x.size(2)).flatten(1)
        out = self.expand(F.relu(self.squeeze(out)))
        out = F.relu6(out + 3.0) / 6.0
        return x * out[:, :, None, None]


class SEClamp(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.fc = nn.Sequential(
            nn.AdaptiveAvgPool2d(output_size=1),
            nn.Conv2d(channels, channels // reduction, 1),
            nn.PReLU(channels // reduction),
            nn.Conv2d(channels // reduction, channels, 1),
        )

    def forward(self, x):
        y = torch.clamp(self.fc(x) * 0.2 + 0.5, min=0.0, max=1.0)
        return torch.mul(x, y)


class SEMean(nn.Module):
    def __init__(self, channels, reduction=4):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(channels, channels // reduction) / math.sqrt(channels))
        self.w2 = nn.Parameter(torch.randn(channels // reduction, channels) / math.sqrt(channels))

    def forward(self, x):
        s = x.view(x.shape[0], x.shape[1], -1).mean(-1)
        s = torch.sigmoid(torch.relu(s @ self.w1).matmul(self.w2))
        return x.mul(s.unsqueeze(-1).unsqueeze(-1))


class SETrueDiv(nn.Module):
    """The mean as a sum that is divided, the gate as tanh, the product in place."""

    def __init__(self, channels, reduction=4):
        super().__init__()
        self.down = nn.Linear(channels, channels // reduction)
        self.up = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        n, c, h, w = x.shape
        s = torch.sum(x, dim=[2, 3]) / (h * w)
        s = 0.5 * (torch.tanh(self.up(F.leaky_relu(self.down(s), 0.1))) + 1)
        x *= s.reshape(n, c, 1, 1)
        return x


# CBAM (arXiv:1807.06521): channel gate from two pools, spatial gate from maximum and mean over channels


class Flatten(nn.Module):
    def forward(self, x):
        return x.view(x.size(0), -1)


class ChannelGate(nn.Module):
    def __init__(self, gate_channels, reduction_ratio=4, pool_types=("avg", "max")):
        super().__init__()
        self.gate_channels = gate_channels
        self.mlp = nn.Sequential(
            Flatten(),
            nn.Linear(gate_channels, gate_channels // reduction_ratio),
            nn.ReLU(),
            nn.Linear(gate_channels // reduction_ratio, gate_channels),
        )
        self.pool_types = pool_types

    def forward(self, x):
        channel_att_sum = None
        for pool_type in self.pool_types:
            if pool_type == "avg":
                pool = F.avg_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
            elif pool_type == "max":
                pool = F.max_pool2d(x, (x.size(2), x.size(3)), stride=(x.size(2), x.size(3)))
            channel_att_raw = self.mlp(pool)
            channel_att_sum = channel_att_raw if channel_att_sum is None else channel_att_sum + channel_att_raw
        scale = torch.sigmoid(channel_att_sum).unsqueeze(2).unsqueeze(3).expand_as(x)
        return x * scale


class ChannelPool(nn.Module):
    def forward(self, x):
        return torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)


class SpatialGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.compress = ChannelPool()
        self.spatial = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x):
        x_out = self.spatial(self.compress(x))
        return x * torch.sigmoid(x_out)  # broadcasting


class CBAM(nn.Sequential):
    def __init__(self, channels):
        super().__init__(ChannelGate(channels), SpatialGate())


class SpatialMax(nn.Module):
    """The other spelling of the spatial gate: torch.max with keepdim, its indices thrown away."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def forward(self, x):
        avg_out = torch.mean(x, dim=1, keepdim=True)
        max_out, _ = torch.max(x, dim=1, keepdim=True)
        return x * self.conv(torch.cat([avg_out, max_out], dim=1)).sigmoid()


class ECA(nn.Module):
    """ECA-Net (arXiv:1910.03151): a 1-D convolution over the channels."""

    def __init__(self, channel, gamma=2, b=1):
        super().__init__()
        t = int(abs((math.log(channel, 2) + b) / gamma))
        k_size = t if t % 2 else t + 1
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv1d(1, 1, kernel_size=k_size, padding=(k_size - 1) // 2, bias=False)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        y = self.avg_pool(x)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        y = self.sigmoid(y)
        return x * y.expand_as(x)


class SK(nn.Module):
    """SK-Net (arXiv:1903.06586): branches stacked, and weighed by a softmax over them."""

    def __init__(self, features, M=2, d=8):
        super().__init__()
        self.M = M
        self.features = features
        self.convs = nn.ModuleList([])
        for i in range(M):
            self.convs.append(
                nn.Sequential(
                    nn.Conv2d(features, features, 3, stride=1, padding=1 + i, dilation=1 + i, groups=4, bias=False),
                    nn.BatchNorm2d(features),
                    nn.ReLU(inplace=False),
                )
            )
        self.fc = nn.Sequential(nn.Conv2d(features, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU(inplace=False))
        self.fcs = nn.ModuleList([nn.Conv2d(d, features, kernel_size=1, stride=1) for _ in range(M)])
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        batch_size = x.shape[0]
        feats = [conv(x) for conv in self.convs]
        feats = torch.cat(feats, dim=1)
        feats = feats.view(batch_size, self.M, self.features, feats.shape[2], feats.shape[3])
        feats_U = torch.sum(feats, dim=1)
        feats_S = F.adaptive_avg_pool2d(feats_U, 1)
        feats_Z = self.fc(feats_S)
        attention_vectors = [fc(feats_Z) for fc in self.fcs]
        attention_vectors = torch.cat(attention_vectors, dim=1)
        attention_vectors = attention_vectors.view(batch_size, self.M, self.features, 1, 1)
        attention_vectors = self.softmax(attention_vectors)
        return torch.sum(feats * attention_vectors, dim=1)


class SKStack(nn.Module):
    """The same by torch.stack and a loop."""

    def __init__(self, features):
        super().__init__()
        self.a = nn.Conv2d(features, features, 3, padding=1)
        self.b = nn.Conv2d(features, features, 5, padding=2)
        self.fc = nn.Linear(features, 8)
        self.fcs = nn.ModuleList([nn.Linear(8, features) for _ in range(2)])

    def forward(self, x):
        feas = torch.stack((self.a(x), self.b(x)), dim=1)
        fea_z = self.fc(feas.sum(1).mean(-1).mean(-1))
        for i, fc in enumerate(self.fcs):
            vector = fc(fea_z).unsqueeze_(dim=1)
            attention = vector if i == 0 else torch.cat([attention, vector], dim=1)  # noqa: F821
        attention = F.softmax(attention, 1).unsqueeze(-1).unsqueeze(-1)
        return (feas * attention).sum(dim=1)


class Res2(nn.Module):
    """Res2Net (arXiv:1904.01169): pieces of a split, each added to what the last one gave."""

    def __init__(self, planes, scale=4):
        super().__init__()
        width = planes // scale
        self.conv1 = nn.Conv2d(planes, width * scale, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width * scale)
        self.nums = scale - 1
        self.convs = nn.ModuleList([nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(self.nums)])
        self.bns = nn.ModuleList([nn.BatchNorm2d(width) for _ in range(self.nums)])
        self.conv3 = nn.Conv2d(width * scale, planes, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.width = width
        self.scale = scale

    def forward(self, x):
        residual = x
        out = self.relu(self.bn1(self.conv1(x)))
        spx = torch.split(out, self.width, 1)
        for i in range(self.nums):
            sp = spx[i] if i == 0 else sp + spx[i]  # noqa: F821
            sp = self.convs[i](sp)
            sp = self.relu(self.bns[i](sp))
            out = sp if i == 0 else torch.cat((out, sp), 1)
        out = torch.cat((out, spx[self.nums]), 1)
        out = self.bn3(self.conv3(out))
        out += residual
        return self.relu(out)


class SplitAttention(nn.Module):
    """ResNeSt (arXiv:2004.08955): radix groups, softmax over the radix, pieces weighed and summed."""

    def __init__(self, channels, radix=2, cardinality=2):
        super().__init__()
        self.radix, self.cardinality, self.channels = radix, cardinality, channels
        self.conv = nn.Conv2d(channels, channels * radix, 3, padding=1, groups=radix * cardinality, bias=False)
        self.bn0 = nn.BatchNorm2d(channels * radix)
        self.fc1 = nn.Conv2d(channels, 8, 1, groups=cardinality)
        self.fc2 = nn.Conv2d(8, channels * radix, 1, groups=cardinality)

    def forward(self, x):
        x = F.relu(self.bn0(self.conv(x)), inplace=True)
        batch, rchannel = x.shape[:2]
        splited = torch.split(x, int(rchannel // self.radix), dim=1)
        gap = sum(splited)
        gap = F.adaptive_avg_pool2d(gap, 1)
        atten = self.fc2(F.relu(self.fc1(gap)))
        atten = atten.view(batch, self.cardinality, self.radix, -1).transpose(1, 2)
        atten = F.softmax(atten, dim=1)
        atten = atten.reshape(batch, -1).view(batch, -1, 1, 1)
        attens = torch.split(atten, int(rchannel // self.radix), dim=1)
        out = sum([att * split for (att, split) in zip(attens, splited, strict=True)])
        return out.contiguous()


class GlobalContext(nn.Module):
    """GCNet (arXiv:1904.11492): attention pooling over space by matmul, added to every place."""

    def __init__(self, channels):
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, kernel_size=1)
        self.channel_add_conv = nn.Sequential(
            nn.Conv2d(channels, 4, 1), nn.LayerNorm([4, 1, 1]), nn.ReLU(inplace=True), nn.Conv2d(4, channels, 1)
        )

    def spatial_pool(self, x):
        batch, channel, height, width = x.size()
        input_x = x.view(batch, channel, height * width).unsqueeze(1)
        context_mask = self.conv_mask(x).view(batch, 1, height * width)
        context_mask = F.softmax(context_mask, dim=2).unsqueeze(-1)
        return torch.matmul(input_x, context_mask).view(batch, channel, 1, 1)

    def forward(self, x):
        return x + self.channel_add_conv(self.spatial_pool(x))


class NonLocal(nn.Module):
    """Non-local network (arXiv:1711.07971): attention between the places of a map."""

    def __init__(self, channels):
        super().__init__()
        self.inter_channels = channels // 2
        self.g = nn.Conv2d(channels, self.inter_channels, 1)
        self.theta = nn.Conv2d(channels, self.inter_channels, 1)
        self.phi = nn.Conv2d(channels, self.inter_channels, 1)
        self.W = nn.Sequential(nn.Conv2d(self.inter_channels, channels, 1), nn.BatchNorm2d(channels))
        init.constant_(self.W[1].weight, 0)

    def forward(self, x):
        batch_size = x.size(0)
        g_x = self.g(x).view(batch_size, self.inter_channels, -1).permute(0, 2, 1)
        theta_x = self.theta(x).view(batch_size, self.inter_channels, -1).permute(0, 2, 1)
        phi_x = self.phi(x).view(batch_size, self.inter_channels, -1)
        f_div_C = F.softmax(torch.matmul(theta_x, phi_x), dim=-1)
        y = torch.matmul(f_div_C, g_x).permute(0, 2, 1).contiguous()
        y = y.view(batch_size, self.inter_channels, *x.size()[2:])
        return self.W(y) + x


class CoordAttention(nn.Module):
    """Coordinate attention (arXiv:2103.02907): pools along each side, joined, split again."""

    def __init__(self, channels):
        super().__init__()
        self.pool_h = nn.AdaptiveAvgPool2d((None, 1))
        self.pool_w = nn.AdaptiveAvgPool2d((1, None))
        self.conv1 = nn.Conv2d(channels, 8, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv_h = nn.Conv2d(8, channels, kernel_size=1)
        self.conv_w = nn.Conv2d(8, channels, kernel_size=1)

    def forward(self, x):
        _n, _c, h, w = x.size()
        x_h = self.pool_h(x)
        x_w = self.pool_w(x).permute(0, 1, 3, 2)
        y = self.bn1(self.conv1(torch.cat([x_h, x_w], dim=2)))
        y = y * (F.relu6(y + 3) / 6)
        x_h, x_w = torch.split(y, [h, w], dim=2)
        x_w = x_w.permute(0, 1, 3, 2)
        return x * self.conv_w(x_w).sigmoid() * self.conv_h(x_h).sigmoid()


class GatedResNet(nn.Module):
    """A small residual network; the gate stands before the addition."""

    def __init__(self, gate, widths=(16, 24)):
        super().__init__()
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.body = nn.ModuleList()
        last = widths[0]
        for width in widths:
            self.body.append(nn.Conv2d(last, width, 3, stride=2, padding=1, bias=False))
            self.body.append(nn.BatchNorm2d(width))
            self.body.append(gate(width))
            last = width
        self.head = nn.Linear(last, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        for i in range(0, len(self.body), 3):
            x = F.relu(self.body[i + 1](self.body[i](x)))
            x = self.body[i + 2](x) + x
        return self.head(x.mean([2, 3]))


GATES = {
    "se_linear": SELayer,
    "se_conv": SEConv,
    "se_hard_sigmoid": SEHardSigmoid,
    "se_clamp": SEClamp,
    "se_matmul": SEMean,
    "se_tanh": SETrueDiv,
    "cbam": CBAM,
    "spatial_max": SpatialMax,
    "eca": ECA,
    "sknet": SK,
    "sknet_stack": SKStack,
    "res2net": Res2,
    "resnest": SplitAttention,
    "gcnet": GlobalContext,
    "nonlocal": NonLocal,
    "coord_attention": CoordAttention,
}
gates = partial(Fixture, family="gates")
NETWORKS = {name: gates(partial(GatedResNet, gate), image(3, 16)) for name, gate in GATES.items()}
