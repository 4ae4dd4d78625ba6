"""Networks that mix tokens or maps without attention: mixers, gated MLPs, pooling, convolutions."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image

# MLP-Mixer (arXiv:2105.01601): a linear layer over tokens between two transposes


class MixerMlp(nn.Sequential):
    def __init__(self, dim, hidden):
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(0.1), nn.Linear(hidden, dim), nn.Dropout(0.1))


class MixerLayer(nn.Module):
    def __init__(self, dim, length):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.token_mix = MixerMlp(length, 24)
        self.norm2 = nn.LayerNorm(dim)
        self.channel_mix = MixerMlp(dim, 48)

    def forward(self, x):
        x = x + self.token_mix(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.channel_mix(self.norm2(x))
        return x


class Mixer(nn.Module):
    def __init__(self, dim=20, patch=8):
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(3 * patch * patch, dim)
        self.mixer_blocks = nn.ModuleList([MixerLayer(dim, 16) for _ in range(2)])
        self.layer_norm = nn.LayerNorm(dim)
        self.mlp_head = nn.Sequential(nn.Linear(dim, 10))

    def rearrange(self, x):
        """b c (h p) (w q) -> b (h w) (p q c), by hand."""
        b, c, hh, ww = x.shape
        h, w = hh // self.patch, ww // self.patch
        x = x.reshape(b, c, h, self.patch, w, self.patch)
        x = x.permute(0, 2, 4, 3, 5, 1)
        return x.reshape(b, h * w, self.patch * self.patch * c)

    def forward(self, x):
        x = self.embed(self.rearrange(x))
        for mixer_block in self.mixer_blocks:
            x = mixer_block(x)
        x = self.layer_norm(x)
        x = x.mean(dim=1)
        return self.mlp_head(x)


# gMLP (arXiv:2105.08050): one half of the channels gates the other, tokens mixed by a 1-D convolution


class SpatialGatingUnit(nn.Module):
    def __init__(self, d_ffn, seq_len):
        super().__init__()
        self.norm = nn.LayerNorm(d_ffn)
        self.spatial_proj = nn.Conv1d(seq_len, seq_len, kernel_size=1)
        nn.init.constant_(self.spatial_proj.bias, 1.0)

    def forward(self, x):
        u, v = x.chunk(2, dim=-1)
        v = self.norm(v)
        v = self.spatial_proj(v)
        out = u * v
        return out


class GMLPBlock(nn.Module):
    def __init__(self, d_model, d_ffn, seq_len):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.channel_proj1 = nn.Linear(d_model, d_ffn * 2)
        self.channel_proj2 = nn.Linear(d_ffn, d_model)
        self.sgu = SpatialGatingUnit(d_ffn, seq_len)

    def forward(self, x):
        residual = x
        x = self.norm(x)
        x = F.gelu(self.channel_proj1(x))
        x = self.sgu(x)
        x = self.channel_proj2(x)
        out = x + residual
        return out


class GMLP(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.patcher = nn.Conv2d(3, dim, kernel_size=8, stride=8)
        self.model = nn.Sequential(*[GMLPBlock(dim, 24, 16) for _ in range(2)])
        self.classifier = nn.Linear(dim, 10)

    def forward(self, x):
        patches = self.patcher(x)
        batch_size, num_channels, _, _ = patches.shape
        patches = patches.permute(0, 2, 3, 1)
        patches = patches.view(batch_size, -1, num_channels)
        embedding = self.model(patches)
        embedding = embedding.mean(dim=1)
        return self.classifier(embedding)


# ResMLP (arXiv:2105.03404): an affine map in place of a norm, by addcmul; a scaled residual


class Affine(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones((1, 1, dim)))
        self.beta = nn.Parameter(torch.zeros((1, 1, dim)))

    def forward(self, x):
        return torch.addcmul(self.beta, self.alpha, x)


class ResMLPBlock(nn.Module):
    def __init__(self, dim, length, init_values=1e-4):
        super().__init__()
        self.norm1 = Affine(dim)
        self.linear_tokens = nn.Linear(length, length)
        self.norm2 = Affine(dim)
        self.mlp_channels = MixerMlp(dim, 4 * dim)
        self.ls1 = nn.Parameter(init_values * torch.ones(dim))
        self.ls2 = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x):
        x = x + self.ls1 * self.linear_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.ls2 * self.mlp_channels(self.norm2(x))
        return x


class ResMLP(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 8, 8)
        self.blocks = nn.Sequential(ResMLPBlock(dim, 16), ResMLPBlock(dim, 16))
        self.norm = Affine(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        x = self.stem(x).flatten(2).permute(0, 2, 1)
        x = self.norm(self.blocks(x))
        return self.head(x.mean(1))


# ConvMixer (arXiv:2201.09792): in a dozen lines


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def ConvMixer(dim, depth, kernel_size=5, patch_size=4, n_classes=10):
    return nn.Sequential(
        nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size),
        nn.GELU(),
        nn.BatchNorm2d(dim),
        *[
            nn.Sequential(
                Residual(
                    nn.Sequential(
                        nn.Conv2d(dim, dim, kernel_size, groups=dim, padding="same"), nn.GELU(), nn.BatchNorm2d(dim)
                    )
                ),
                nn.Conv2d(dim, dim, kernel_size=1),
                nn.GELU(),
                nn.BatchNorm2d(dim),
            )
            for i in range(depth)
        ],
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(dim, n_classes),
    )


# PoolFormer (arXiv:2111.11418): mean pooling less the input; GroupNorm of one group; LayerScale unsqueezed


class Pooling(nn.Module):
    def __init__(self, pool_size=3):
        super().__init__()
        self.pool = nn.AvgPool2d(pool_size, stride=1, padding=pool_size // 2, count_include_pad=False)

    def forward(self, x):
        return self.pool(x) - x


class PoolFormerBlock(nn.Module):
    def __init__(self, dim, layer_scale_init_value=1e-5):
        super().__init__()
        self.norm1 = nn.GroupNorm(1, dim)
        self.token_mixer = Pooling()
        self.norm2 = nn.GroupNorm(1, dim)
        self.mlp = nn.Sequential(nn.Conv2d(dim, 4 * dim, 1), nn.GELU(), nn.Conv2d(4 * dim, dim, 1), nn.Dropout(0.0))
        self.layer_scale_1 = nn.Parameter(layer_scale_init_value * torch.ones(dim), requires_grad=True)
        self.layer_scale_2 = nn.Parameter(layer_scale_init_value * torch.ones(dim), requires_grad=True)

    def forward(self, x):
        x = x + self.layer_scale_1.unsqueeze(-1).unsqueeze(-1) * self.token_mixer(self.norm1(x))
        x = x + self.layer_scale_2.unsqueeze(-1).unsqueeze(-1) * self.mlp(self.norm2(x))
        return x


class PoolFormer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 12, kernel_size=7, stride=4, padding=2)
        self.network = nn.ModuleList([PoolFormerBlock(12), nn.Conv2d(12, 20, 3, 2, 1), PoolFormerBlock(20)])
        self.norm = nn.GroupNorm(1, 20)
        self.head = nn.Linear(20, 10)

    def forward_tokens(self, x):
        outs = []
        for _idx, block in enumerate(self.network):
            x = block(x)
            outs.append(x)
        return x

    def forward(self, x):
        x = self.norm(self.forward_tokens(self.patch_embed(x)))
        return self.head(x.mean([-2, -1]))


class CondConvVAN(nn.Module):
    """Visual attention network (arXiv:2202.09741): large-kernel attention, its gate a chain of depthwise layers."""

    def __init__(self, dim=16):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 4, 4)
        self.proj_1 = nn.Conv2d(dim, dim, 1)
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, stride=1, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, dim, 1)
        self.proj_2 = nn.Conv2d(dim, dim, 1)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        x = self.stem(x)
        shortcut = x.clone()
        x = F.gelu(self.proj_1(x))
        u = x.clone()
        attn = self.conv1(self.conv_spatial(self.conv0(x)))
        x = self.proj_2(u * attn) + shortcut
        return self.head(x.flatten(2).max(dim=2).values)


tokenless = partial(Fixture, family="tokenless")
NETWORKS = {
    "mlp_mixer": tokenless(Mixer, image(3, 32, batch=2)),
    "gmlp": tokenless(GMLP, image(3, 32)),
    "resmlp": tokenless(ResMLP, image(3, 32)),
    "convmixer": tokenless(lambda: ConvMixer(16, 2), image(3, 32)),
    "poolformer": tokenless(PoolFormer, image(3, 32)),
    "van": tokenless(CondConvVAN, image(3, 32)),
}
