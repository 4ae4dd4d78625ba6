"""Ways of writing that no one architecture stands for: shared modules, reparametrized weights, work in place.

Each is a small network that was met somewhere in this form.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils import parametrizations

from tests.networks.fixture import Fixture, image, noise


class StdConv2d(nn.Conv2d):
    """Weight standardization (arXiv:1903.10520), as in BiT."""

    def forward(self, x):
        w = self.weight
        v, m = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
        w = (w - m) / torch.sqrt(v + 1e-10)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class ScaledStdConv2d(nn.Conv2d):
    """The same by F.batch_norm over the filters, with a learned gain (arXiv:2101.08692)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 1.7))
        self.scale = self.weight[0].numel() ** -0.5

    def forward(self, x):
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1),
            None,
            None,
            weight=(self.gain * self.scale).view(-1),
            training=True,
            momentum=0.0,
            eps=1e-5,
        ).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Plain(nn.Module):
    """Two convolutions and a head, the convolution and the norm to be chosen."""

    def __init__(self, conv=nn.Conv2d, norm=nn.Identity, linear=nn.Linear):
        super().__init__()
        self.root = nn.Sequential(
            OrderedDict(conv=conv(3, 12, 3, padding=1), gn=norm(12), relu=nn.ReLU(inplace=True), pool=nn.MaxPool2d(2))
        )
        self.body = nn.Sequential(conv(12, 16, 3, padding=1), norm(16), nn.ReLU(inplace=True))
        self.head = linear(16, 10)

    def forward(self, x):
        x = self.body(self.root(x))
        return self.head(F.adaptive_avg_pool2d(x, 1)[..., 0, 0])


def spectral(layer):
    return lambda *args, **kwargs: parametrizations.spectral_norm(layer(*args, **kwargs))


class Shared(nn.Module):
    """One block used three times over, one activation everywhere, one head for two views; a weight used twice."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.ReLU())
        self.act = nn.LeakyReLU(0.1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8) for _ in range(3)])
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.act(self.stem(x))
        for norm in self.norms:
            x = self.act(norm(self.block(x))) + x
        up = F.conv2d(x, self.block[0].weight, padding=2, dilation=2)
        return self.head(x.mean((-2, -1))) - self.head(up.amax((-2, -1)))


class TiedAutoencoder(nn.Module):
    """The decoder uses the encoder's weight transposed."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(12, 6)
        self.bias = nn.Parameter(torch.zeros(12))

    def forward(self, x):
        return F.linear(F.relu(self.encoder(x)), self.encoder.weight.t(), self.bias)


class InPlace(nn.Module):
    """All kinds of work in place, on values that are read again later."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.hardtanh = nn.Hardtanh(-1.0, 2.0, inplace=True)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = x.clone()
        x -= 0.5
        x.mul_(2.0)
        a = self.conv1(x)
        F.relu_(a)  # a itself is meant from here on
        b = self.conv2(a)
        b = b.add_(a).clamp_(min=-3)
        b *= 0.5
        c = torch.relu_(b.clone())
        c += a
        self.hardtanh(c)
        return self.fc(c.mean(dim=3).mean(dim=2).add(b.flatten(2).sum(2), alpha=0.01))


class SliceAssign(nn.Module):
    """Temporal shift (arXiv:1811.08383): slices written into an empty copy."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        out = torch.zeros_like(x)
        fold = x.shape[1] // 4
        out[:, :fold, :-1] = x[:, :fold, 1:]
        out[:, fold : 2 * fold, 1:] = x[:, fold : 2 * fold, :-1]
        out[:, 2 * fold :] = x[:, 2 * fold :]
        return self.fc(F.relu(self.conv(out)).mean(-1))


class Careful(nn.Module):
    """Assertions, branches on shapes and on settings, a training branch, a loop over sizes."""

    def __init__(self, deep_supervision=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.project = nn.Conv2d(8, 12, 1)
        self.aux = nn.Linear(12, 5)
        self.fc = nn.Linear(12, 5)
        self.deep_supervision = deep_supervision

    def forward(self, x):
        assert x.dim() == 4, "expected a batch of images"
        if x.size(1) != 3:
            raise ValueError(f"expected 3 channels, got {x.size(1)}")
        torch._assert(x.shape[2] == x.shape[3], "expected a square")
        x = self.conv(x)
        while x.shape[-1] > 4:
            x = F.max_pool2d(F.silu(x), 2)
        if x.shape[1] < 12 and x.ndim == 4:
            x = self.project(x)
        n = x.numel() // (x.shape[0] * x.shape[1])
        x = x.reshape(len(x), -1, n).sum(-1) / n
        out = self.fc(x)
        if self.training and self.deep_supervision:
            return out, self.aux(x)
        return out


class Modules(nn.Module):
    """Layers by name from a ModuleDict, by getattr, by children(), and a Sequential cut by index."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict(
            {
                "conv": nn.Conv2d(3, 8, 3, 2, 1),
                "norm": nn.BatchNorm2d(8),
                "act": nn.ModuleDict({"relu": nn.ReLU(), "gelu": nn.GELU("tanh")})["gelu"],
            }
        )
        for i in range(2):
            setattr(self, f"block_{i}", nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU6(), nn.Conv2d(8, 8, 1)))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Softmax(dim=1))
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in range(2)])

    def forward(self, x):
        for name in ("conv", "norm", "act"):
            x = self.layers[name](x)
        for i in range(2):
            block = getattr(self, f"block_{i}")
            y = block[:2](x)
            for child in list(block.children())[2:]:
                y = child(y)
            x = x + self.scales[i] * y
        return self.head[:-1](x)


class EinsumAttention(nn.Module):
    """Attention by einsum, with a learned temperature and a projection without bias."""

    def __init__(self, dim=16, heads=4):
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        b, n, d, h = *x.shape, self.heads
        qkv = self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        q, k, v = map(lambda t: t.reshape(b, n, h, d // h).permute(0, 2, 1, 3), qkv)
        dots = torch.einsum("bhid,bhjd->bhij", q, k) * self.temperature.exp()
        attn = dots.softmax(dim=-1)
        out = torch.einsum("bhij,bhjd->bhid", attn, v)
        out = out.transpose(1, 2).reshape(b, n, -1)
        return self.head(torch.einsum("bnd->bd", self.to_out(out) + x) / n)


class LinearAttention(nn.Module):
    """Linear attention (arXiv:2006.16236): elu + 1, keys and values multiplied first."""

    def __init__(self, dim=16, heads=2):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        q, k, v = (f(x).view(x.size(0), x.size(1), self.heads, -1) for f in (self.q, self.k, self.v))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        kv = torch.einsum("nshd,nshm->nhmd", k, v)
        z = 1 / (torch.einsum("nlhd,nhd->nlh", q, k.sum(dim=1)) + 1e-6)
        y = torch.einsum("nlhd,nhmd,nlh->nlhm", q, kv, z)
        return self.head(y.contiguous().view(x.size(0), x.size(1), -1).mean(1))


class Focus(nn.Module):
    """Input normalized by buffers; every second pixel into channels, by slices and by pixel_unshuffle; blur filter."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.conv = nn.Conv2d(12, 8, 3, padding=1, padding_mode="reflect")
        blur = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (blur[:, None] * blur[None, :] / 16)[None, None].repeat(8, 1, 1, 1))
        self.out = nn.Conv2d(8 + 12, 6, 1)

    def forward(self, x):
        x = (x - self.mean) / self.std
        y = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        y = F.hardswish(self.conv(y))
        y = F.conv2d(F.pad(y, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=y.shape[1])
        z = F.avg_pool2d(F.pixel_unshuffle(x, 2), 3, stride=2, padding=1, ceil_mode=True)
        return self.out(torch.cat([y, z[:, :, : y.size(2), : y.size(3)]], 1)).mean([2, 3])


class CoordConv(nn.Module):
    """Coordinates as two more channels (arXiv:1807.03247)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(5, 8, 3, padding="valid")
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        b, _, h, w = x.size()
        ys = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(b, 1, h, w)
        xs = torch.linspace(-1, 1, w, device=x.device).view(1, 1, 1, w).repeat(b, 1, h, 1)
        x = torch.cat([x, xs.type_as(x), ys.type_as(x)], dim=1)
        return self.fc(F.relu(self.conv(x)).amax(dim=-1).amax(dim=-1))


class CReLU(nn.Module):
    """CReLU (arXiv:1603.05201), PReLU, ReZero (arXiv:2003.04887), norms without scale and of frozen statistics."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(8, affine=False)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.prelu = nn.PReLU()
        self.alpha = nn.Parameter(torch.zeros(1))
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.1), ("running_var", 0.9)):
            self.register_buffer(name, torch.full((16,), value))
        self.fc = nn.Linear(16, 4)

    def frozen_batch_norm(self, x):
        w, b = self.weight.reshape(1, -1, 1, 1), self.bias.reshape(1, -1, 1, 1)
        rv, rm = self.running_var.reshape(1, -1, 1, 1), self.running_mean.reshape(1, -1, 1, 1)
        scale = w * (rv + 1e-5).rsqrt()
        bias = b - rm * scale
        return x * scale + bias

    def forward(self, x):
        x = self.bn(self.conv(x))
        x = F.relu(torch.cat([x, -x], 1))
        x = x + self.alpha * self.prelu(self.conv2(x))
        x = self.frozen_batch_norm(x)
        return self.fc(x.mean([2, 3]).abs().sqrt())


class IgnoresInput(nn.Module):
    """Reads a part of its input; has a layer, an output of a split and a computed value that nobody uses."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.unused = nn.Linear(8, 100)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        x, _rest = x.split([2, 2], dim=1)
        x = self.conv(x)
        keep, _gone = torch.tensor_split(x, 2, dim=1)
        self.unused(x.mean([2, 3]))
        return self.fc(F.relu(keep)[:, :, 1:-1, 1:-1].mean([2, 3]))


class CosineHead(nn.Module):
    """A classifier by cosine: input and weight normalized, a scale; distances to prototypes beside it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.BatchNorm1d(16), nn.Hardswish())
        self.weight = nn.Parameter(torch.randn(5, 16))
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.prototypes = nn.Parameter(torch.randn(5, 16))

    def forward(self, x):
        x = self.body(x)
        cosine = F.linear(F.normalize(x), F.normalize(self.weight, dim=1))
        distance = (x.unsqueeze(1) - self.prototypes.unsqueeze(0)).pow(2).sum(-1)
        unit = x / x.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        return self.scale * cosine - 0.1 * distance + unit[:, :5]


class Pools(nn.Module):
    """Pooling of many kinds: generalized mean, adaptive maximum to a grid, log-sum-exp, square norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.p = nn.Parameter(torch.ones(1) * 3)
        self.lp = nn.LPPool2d(2, 2)
        self.fc = nn.Linear(8 * 7, 4)

    def gem(self, x, p, eps=1e-6):
        return F.avg_pool2d(x.clamp(min=eps).pow(p), (x.size(-2), x.size(-1))).pow(1.0 / p)

    def forward(self, x):
        x = F.softplus(self.conv(x))
        pyramid = [F.adaptive_max_pool2d(x, n).flatten(1) for n in (1, 2)]
        lse = torch.logsumexp(self.lp(x), dim=(2, 3))
        gem = self.gem(x, self.p).squeeze(-1).squeeze(-1)
        return self.fc(torch.cat([*pyramid, lse, gem], dim=1))


class Rearranged(nn.Module):
    """Axes moved by all the names PyTorch has for it."""

    def __init__(self):
        super().__init__()
        self.pool = nn.Unfold(kernel_size=2, stride=2)
        self.fc1 = nn.Linear(12, 16)
        self.fc2 = nn.Linear(16, 6)

    def forward(self, x):
        x = self.pool(x).mT
        x = F.gelu(self.fc1(x))
        x = x.movedim(-1, 1).unflatten(2, (4, 4)).swapaxes(2, 3)
        x = torch.flip(x, dims=[3]).rot90(2, [2, 3])
        x = torch.narrow(x, 3, 0, 3).index_select(2, torch.tensor([0, 2]))
        a, b = x.unbind(2)
        x = torch.stack([a, b * 0.5], -1).view(x.size(0), 16, -1).moveaxis(1, 2)
        x = torch.select(torch.cat([x, x[:, :1].expand(-1, 2, -1)], 1), 1, 3) + x.mean(1)
        return self.fc2(x.unsqueeze(0).squeeze(0))


class FunctionalNet(nn.Module):
    """All weights as bare parameters, all layers as functions."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(8, 3, 3, 3) * 0.2), nn.Parameter(torch.zeros(8))
        self.g, self.beta = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("mu", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.wt = nn.Parameter(torch.randn(8, 6, 2, 2) * 0.2)
        self.w2, self.b2 = nn.Parameter(torch.randn(6, 5) * 0.3), nn.Parameter(torch.zeros(5))

    def forward(self, x):
        x = F.conv2d(x, self.w1, self.b1, stride=2, padding=1)
        x = F.batch_norm(x, self.mu, self.var, self.g, self.beta, training=self.training)
        x = F.conv_transpose2d(F.relu6(x), self.wt, stride=2)
        x = F.group_norm(x, 2)
        x = F.instance_norm(F.mish(x))
        x = F.dropout2d(F.logsigmoid(x), 0.1, self.training)
        return torch.matmul(x.square().mean((2, 3)), self.w2) + self.b2


def lecun_head():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=(0, 1), padding_mode="circular"),
        nn.Tanhshrink(),
        nn.ZeroPad2d((1, 0, 0, 1)),
        nn.ConstantPad2d(1, 0.5),
        nn.ReplicationPad2d(1),
        nn.CELU(),
        nn.Conv2d(6, 6, (3, 1), stride=(2, 1), dilation=(1, 2), groups=3),
        nn.Threshold(0.1, 0.0),
        nn.AvgPool2d((2, 3), stride=(2, 1), padding=(0, 1)),
        nn.ChannelShuffle(2),
        nn.Softsign(),
        nn.Flatten(start_dim=1, end_dim=2),
        nn.LazyLinear(4),
        nn.LogSigmoid(),
        nn.Flatten(),
    )


def made(factory, example):
    """Lazy layers get their sizes from one call."""

    def make():
        module = factory()
        with torch.no_grad():
            module(example())
        return module

    return make


idioms = partial(Fixture, family="idioms")
NETWORKS = {
    "weight_standardized": idioms(lambda: Plain(StdConv2d, partial(nn.GroupNorm, 4)), image(3, 12, batch=2)),
    "scaled_weight_standardized": idioms(lambda: Plain(ScaledStdConv2d), image(3, 12)),
    "spectral_norm": idioms(lambda: Plain(spectral(nn.Conv2d), linear=spectral(nn.Linear)), image(3, 12)),
    "instance_norm_tracked": idioms(
        lambda: Plain(norm=partial(nn.InstanceNorm2d, affine=True, track_running_stats=True)), image(3, 12)
    ),
    "layer_norm_map": idioms(lambda: Plain(norm=lambda c: nn.GroupNorm(c, c)), image(3, 12)),
    "shared_modules": idioms(Shared, image(3, 10)),
    "tied_autoencoder": idioms(TiedAutoencoder, noise(12, batch=2)),
    "in_place": idioms(InPlace, image(3, 8)),
    "slice_assign": idioms(SliceAssign, noise(8, 10, batch=2)),
    "careful": idioms(Careful, image(3, 16, batch=2)),
    "modules_by_name": idioms(Modules, image(3, 12)),
    "einsum_attention": idioms(EinsumAttention, noise(6, 16, batch=2)),
    "linear_attention": idioms(LinearAttention, noise(6, 16)),
    "focus_blur": idioms(Focus, image(3, 16)),
    "coord_conv": idioms(CoordConv, image(3, 9)),
    "crelu_frozen_norm": idioms(CReLU, image(3, 8)),
    "ignores_input": idioms(IgnoresInput, image(4, 8)),
    "cosine_head": idioms(CosineHead, noise(3, 4, 4, batch=2)),
    "pools": idioms(Pools, image(3, 8)),
    "rearranged": idioms(Rearranged, image(3, 8, batch=2)),
    "functional": idioms(FunctionalNet, image(3, 8, batch=2)),
    "rare_layers": idioms(made(lecun_head, image(1, 12)), image(1, 12, batch=2)),
}
