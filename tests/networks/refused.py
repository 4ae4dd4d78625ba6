"""Networks that are no fixed graph from one tensor to one, or use what no importer will know: each has its reason.

`refused` names it: "control flow", "inputs", "outputs", "batch" (samples read one another, or lie
side by side in one axis), or "op" (an unknown one, which may come in as a black box).
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image, noise, tokens


class EarlyExit(nn.Module):
    """BranchyNet (arXiv:1709.01686): leaves early when it is sure."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.exit, self.head = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, x):
        x = F.relu(self.first(x))
        early = self.exit(x)
        if early.softmax(-1).max() > 0.9:
            return early
        return self.head(F.relu(self.second(x)))


class DynamicDepth(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        for _ in range(int(x.abs().sum().item()) % 3 + 1):
            x = torch.tanh(self.layer(x))
        return x


class Masked(nn.Module):
    """Only the tokens that pass a threshold go on, as many as there are, of all samples together."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x):
        keep = x[x.norm(dim=-1) > 0.5]
        return self.layer(keep).mean(0, keepdim=True)


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 8), nn.Linear(6, 8)

    def forward(self, x, y):
        return self.left(x) * self.right(y)


class Trunk(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.out, self.aux = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)
        self.join = join

    def forward(self, x):
        x = F.relu(self.conv(x))
        return self.join(out=self.out(x), aux=self.aux(x))


def as_tuple(*, out, aux):
    return out, aux


class FNet(nn.Module):
    """FNet (arXiv:2105.03824): tokens mixed by a Fourier transform."""

    def __init__(self, dim=16):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.ff = nn.Sequential(nn.Linear(dim, 32), nn.GELU(), nn.Linear(32, dim))
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        x = self.norm1(x + torch.fft.fft(torch.fft.fft(x, dim=-1), dim=-2).real)
        x = self.norm2(x + self.ff(x))
        return self.head(x.mean(1))


class ComplexRotary(nn.Module):
    """Rotary positions by complex numbers, as in LLaMA's first code."""

    def __init__(self, dim=16):
        super().__init__()
        freqs = torch.outer(torch.arange(12).float(), 1.0 / (100.0 ** (torch.arange(0, dim, 2) / dim)))
        self.register_buffer("freqs_cis", torch.polar(torch.ones_like(freqs), freqs))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        xq = self.proj(x)
        xq_ = torch.view_as_complex(xq.float().reshape(*xq.shape[:-1], -1, 2))
        return torch.view_as_real(xq_ * self.freqs_cis[: x.shape[1]]).flatten(2).type_as(x)


class LSTMTagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.lstm = nn.LSTM(12, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(20, 4)

    def forward(self, x):
        out, (_h, _c) = self.lstm(self.embedding(x))
        return self.fc(out[:, -1, :])


class CumulativeSort(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x):
        x = torch.sort(self.fc1(x), dim=-1).values
        return self.fc2(torch.special.erfcx(torch.cummax(x, dim=-1).values))


class NoiseInjection(nn.Module):
    """As in StyleGAN: another answer at each call."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = self.conv(x)
        return x + self.weight * torch.randn(x.size(0), 1, *x.shape[2:], device=x.device)


class DynamicConv(nn.Module):
    """Dynamic convolution (arXiv:1912.03458): each sample has kernels of its own, the batch becomes groups."""

    def __init__(self, K=3):
        super().__init__()
        self.attention = nn.Linear(4, K)
        self.weight = nn.Parameter(torch.randn(K, 6, 4, 3, 3) * 0.2)

    def forward(self, x):
        b, c, h, w = x.size()
        attention = F.softmax(self.attention(x.mean((2, 3))), 1)
        weight = torch.mm(attention, self.weight.view(self.weight.size(0), -1)).view(b * 6, c, 3, 3)
        out = F.conv2d(x.view(1, -1, h, w), weight, padding=1, groups=b)
        return out.view(b, 6, h, w)


class BatchCentred(nn.Module):
    """The mean over the batch is taken off, in evaluation too."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.fc(x)
        return x - x.mean(dim=0, keepdim=True)


class GhostBatchStatistics(nn.Module):
    """A norm that keeps no statistics and so always uses those of the batch."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)

    def forward(self, x):
        return F.relu(self.bn(self.conv(x)))


def refused(make, example, reason):
    return Fixture(make, example, family="refused", refused=reason)


def pair():
    return noise(8, batch=2)(), noise(6, batch=2)()


NETWORKS = {
    "early_exit": refused(EarlyExit, noise(8), "control flow"),
    "dynamic_depth": refused(DynamicDepth, noise(8), "control flow"),
    "dynamic_tokens": refused(Masked, noise(6, 8, batch=2), "batch"),
    "two_inputs": refused(TwoInputs, pair, "inputs"),
    "tuple_output": refused(partial(Trunk, as_tuple), image(3, 8), "outputs"),
    "dict_output": refused(partial(Trunk, dict), image(3, 8), "outputs"),
    "dynamic_convolution": refused(DynamicConv, image(4, 6, batch=2), "batch"),
    "batch_centred": refused(BatchCentred, noise(8, batch=2), "batch"),
    "batch_statistics": refused(GhostBatchStatistics, image(3, 8, batch=2), "batch"),
    "fnet": refused(FNet, noise(6, 16, batch=2), "op"),
    "complex_rotary": refused(ComplexRotary, noise(12, 16), "op"),
    "lstm": refused(LSTMTagger, tokens(7, 30, batch=2), "op"),
    "sorted": refused(CumulativeSort, noise(8, batch=2), "op"),
    "noise_injection": refused(NoiseInjection, image(3, 8), "op"),
}
