"""Networks over waves, points, tables and graphs."""

from __future__ import annotations

import math
import warnings
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from tests.networks.fixture import Fixture, noise


class ResBlock1d(nn.Module):
    def __init__(self, inp, out, stride):
        super().__init__()
        self.conv1 = nn.Conv1d(inp, out, 7, stride, 3, bias=False)
        self.bn1 = nn.BatchNorm1d(out)
        self.conv2 = nn.Conv1d(out, out, 7, 1, 3, bias=False)
        self.bn2 = nn.BatchNorm1d(out)
        self.identity = nn.Sequential(nn.AvgPool1d(stride, stride), nn.Conv1d(inp, out, 1)) if stride > 1 else None

    def forward(self, x):
        y = self.bn2(self.conv2(F.dropout(F.relu(self.bn1(self.conv1(x))), 0.2, self.training)))
        return F.relu(y + (x if self.identity is None else self.identity(x)))


class ResNet1d(nn.Module):
    """As used on electrocardiograms."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(2, 8, 15, 2, 7), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(3, 2, 1))
        self.body = nn.Sequential(ResBlock1d(8, 8, 1), ResBlock1d(8, 16, 2))
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.fc = nn.Linear(16, 5)

    def forward(self, x):
        return self.fc(self.pool(self.body(self.stem(x))).squeeze(-1))


class M5(nn.Module):
    """The speech-command tutorial's: raw waves, log-softmax over an axis that is permuted first."""

    def __init__(self, n_input=1, n_output=6, stride=4, n_channel=8):
        super().__init__()
        self.conv1 = nn.Conv1d(n_input, n_channel, kernel_size=16, stride=stride)
        self.bn1 = nn.BatchNorm1d(n_channel)
        self.pool1 = nn.MaxPool1d(4)
        self.conv2 = nn.Conv1d(n_channel, 2 * n_channel, kernel_size=3)
        self.bn2 = nn.BatchNorm1d(2 * n_channel)
        self.fc1 = nn.Linear(2 * n_channel, n_output)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.avg_pool1d(x, x.shape[-1])
        x = x.permute(0, 2, 1)
        x = self.fc1(x)
        return F.log_softmax(x, dim=2)


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(module)


class TCN(nn.Module):
    """Temporal convolutions (arXiv:1803.01271): weight norm, causal by padding and cutting off."""

    def __init__(self, weight_norm, channels=(8, 12)):
        super().__init__()
        layers, inp = [], 3
        for i, out in enumerate(channels):
            pad = 2 * 2**i
            layers += [
                weight_norm(nn.Conv1d(inp, out, 3, padding=pad, dilation=2**i)),
                Chomp1d(pad),
                nn.ReLU(),
                nn.Dropout(0.2),
            ]
            inp = out
        self.network = nn.Sequential(*layers)
        self.downsample = nn.Conv1d(3, inp, 1)
        self.linear = nn.Linear(inp, 4)

    def forward(self, x):
        y = F.relu(self.network(x) + self.downsample(x))
        return self.linear(y[:, :, -1])


class WaveNet(nn.Module):
    """Gated units, a sum of skips (arXiv:1609.03499); padded on one side; LeakyReLU, ELU and others at the end."""

    def __init__(self, c=8):
        super().__init__()
        self.inp = nn.Conv1d(1, c, 1)
        self.gates = nn.ModuleList([nn.Conv1d(c, 2 * c, 2, dilation=2**i) for i in range(3)])
        self.res = nn.ModuleList([nn.Conv1d(c, c, 1) for _ in range(3)])
        self.skip = nn.ModuleList([nn.Conv1d(c, 6, 1) for _ in range(3)])
        self.end = nn.Conv1d(6, 5, 1)

    def forward(self, x):
        x = self.inp(x)
        skips = 0
        for i, (gate, res, skip) in enumerate(zip(self.gates, self.res, self.skip, strict=True)):
            h = gate(F.pad(x, (2**i, 0)))
            f, g = torch.chunk(h, 2, 1)
            h = torch.tanh(f) * torch.sigmoid(g)
            skips = skip(h) + skips
            x = (res(h) + x) * math.sqrt(0.5)
        return self.end(F.leaky_relu(F.elu(skips), 0.3)).sum(-1)


class ConformerConv(nn.Module):
    """The convolution module of Conformer (arXiv:2005.08100): GLU, depthwise, Swish by hand; half-step layers."""

    def __init__(self, dim=16):
        super().__init__()
        self.ff = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 32), nn.SiLU(), nn.Linear(32, dim))
        self.layer_norm = nn.LayerNorm(dim)
        self.pointwise_conv1 = nn.Conv1d(dim, 2 * dim, 1)
        self.depthwise_conv = nn.Conv1d(dim, dim, 5, padding=2, groups=dim)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.pointwise_conv2 = nn.Conv1d(dim, dim, 1)
        self.head = nn.Linear(dim, 3)

    def forward(self, x):
        x = x + 0.5 * self.ff(x)
        y = self.layer_norm(x).transpose(1, 2)
        y = F.glu(self.pointwise_conv1(y), dim=1)
        y = self.batch_norm(self.depthwise_conv(y))
        y = self.pointwise_conv2(y * torch.sigmoid(y)).transpose(1, 2)
        return self.head(x + y).mean(1)


class PointNet(nn.Module):
    """Points, shared layers, max over points, an input transform by bmm (arXiv:1612.00593)."""

    def __init__(self):
        super().__init__()
        self.t1, self.t2 = nn.Conv1d(3, 8, 1), nn.Linear(8, 9)
        self.conv1, self.bn1 = nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16)
        self.conv2, self.bn2 = nn.Conv1d(16, 24, 1), nn.BatchNorm1d(24)
        self.fc = nn.Linear(24, 4)

    def forward(self, x):
        batchsize = x.size()[0]
        t = torch.max(F.relu(self.t1(x)), 2, keepdim=True)[0]
        t = self.t2(t.view(-1, 8))
        iden = torch.eye(3).flatten().view(1, 9).repeat(batchsize, 1)
        trans = (t + iden).view(-1, 3, 3)
        x = x.transpose(2, 1)
        x = torch.bmm(x, trans)
        x = x.transpose(2, 1)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        x = torch.max(x, 2, keepdim=True)[0]
        x = x.view(-1, 24)
        return F.log_softmax(self.fc(x), dim=1)


class GCN(nn.Module):
    """Graph convolution (arXiv:1609.02907) on a fixed graph, whose matrix is a buffer."""

    def __init__(self, nodes=6):
        super().__init__()
        ring = torch.eye(nodes) + torch.eye(nodes).roll(1, 0) + torch.eye(nodes).roll(-1, 0)
        self.register_buffer("adjacency", ring / 3)
        self.W1, self.W2 = nn.Linear(5, 12, bias=False), nn.Linear(12, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x):
        h = F.relu(torch.matmul(self.adjacency, self.W1(x)))
        h = F.relu(self.adjacency @ self.W2(h))
        return self.out(h.mean(dim=1))


class TableMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(10)
        self.layers = nn.ModuleList([nn.Linear(10, 16), nn.Linear(16, 16)])
        self.bns = nn.ModuleList([nn.BatchNorm1d(16), nn.BatchNorm1d(16)])
        self.out = nn.Linear(16, 1)

    def forward(self, x):
        x = self.bn(x)
        for layer, bn in zip(self.layers, self.bns, strict=True):
            x = F.dropout(bn(torch.selu(layer(x))), p=0.1, training=self.training)
        return self.out(x).squeeze(-1)


class CrossNet(nn.Module):
    """Deep and cross (arXiv:2008.13535): the input multiplied again and again; beside a deep part."""

    def __init__(self, n=10):
        super().__init__()
        self.cross = nn.ModuleList([nn.Linear(n, n) for _ in range(2)])
        self.deep = nn.Sequential(nn.Linear(n, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.out = nn.Linear(n + 8, 1)

    def forward(self, x0):
        x = x0
        for layer in self.cross:
            x = x0 * layer(x) + x
        return self.out(torch.hstack([x, self.deep(x0)]))


class Siren(nn.Module):
    """Sines (arXiv:2006.09661) after Fourier features, the input joined again in the middle, as in NeRF."""

    def __init__(self, omega=30.0):
        super().__init__()
        self.omega = omega
        self.first, self.second = nn.Linear(3 + 3 * 2 * 2, 24), nn.Linear(24 + 3, 24)
        self.out = nn.Linear(24, 4)
        with torch.no_grad():
            self.first.weight.uniform_(-1 / 15, 1 / 15)

    def forward(self, x):
        features = [x]
        for freq in (1.0, 2.0):
            for fn in (torch.sin, torch.cos):
                features.append(fn(x * freq))
        h = torch.sin(self.omega * self.first(torch.cat(features, -1)))
        h = torch.sin(self.second(torch.cat([h, x], dim=-1)))
        rgb, alpha = torch.split(self.out(h), [3, 1], dim=-1)
        return torch.cat([torch.sigmoid(rgb), torch.exp(-F.relu(alpha))], dim=-1)


class Highway(nn.Module):
    """Highway layers (arXiv:1505.00387) and maxout (arXiv:1302.4389)."""

    def __init__(self, n=12):
        super().__init__()
        self.plain = nn.ModuleList([nn.Linear(n, n) for _ in range(2)])
        self.gate = nn.ModuleList([nn.Linear(n, n) for _ in range(2)])
        self.maxout = nn.Linear(n, 8 * 3)

    def forward(self, x):
        for plain, gate in zip(self.plain, self.gate, strict=True):
            t = torch.sigmoid(gate(x))
            x = F.relu(plain(x)) * t + x * (1 - t)
        out = self.maxout(x)
        return out.view(*out.shape[:-1], 8, 3).max(dim=-1).values


signals = partial(Fixture, family="signals")
NETWORKS = {
    "resnet_1d": signals(ResNet1d, noise(2, 64, batch=2)),
    "m5_audio": signals(M5, noise(1, 160)),
    "tcn": signals(lambda: TCN(parametrizations.weight_norm), noise(3, 20)),
    "tcn_old_weight_norm": signals(lambda: TCN(old_weight_norm), noise(3, 20)),
    "wavenet": signals(WaveNet, noise(1, 20)),
    "conformer_conv": signals(ConformerConv, noise(9, 16, batch=2)),
    "pointnet": signals(PointNet, noise(3, 14, batch=2)),
    "gcn": signals(GCN, noise(6, 5, batch=2)),
    "table_mlp": signals(TableMLP, noise(10, batch=2)),
    "cross_network": signals(CrossNet, noise(10, batch=2)),
    "siren_nerf": signals(Siren, noise(3, batch=2)),
    "highway_maxout": signals(Highway, noise(12, batch=2)),
}
