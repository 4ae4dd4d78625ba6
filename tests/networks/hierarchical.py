"""Vision transformers of other forms: windows, pyramids, hybrids with convolutions, class attention, distillation."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image
from tests.networks.vit import Attention, Block, DropPath, Mlp

# Swin (arXiv:2103.14030): windows by view and permute, rolled, a table of relative positions, a mask for the borders


def window_partition(x, window_size):
    B, H, W, C = x.shape
    x = x.view(B, H // window_size, window_size, W // window_size, window_size, C)
    windows = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window_size, window_size, C)
    return windows


def window_reverse(windows, window_size, H, W):
    B = int(windows.shape[0] / (H * W / window_size / window_size))
    x = windows.view(B, H // window_size, W // window_size, window_size, window_size, -1)
    x = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, -1)
    return x


class WindowAttention(nn.Module):
    def __init__(self, dim, window_size, num_heads):
        super().__init__()
        self.window_size = window_size
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        table = torch.zeros((2 * window_size[0] - 1) * (2 * window_size[1] - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(table)
        coords = torch.stack(
            torch.meshgrid(torch.arange(window_size[0]), torch.arange(window_size[1]), indexing="ij")
        ).flatten(1)
        relative = (coords[:, :, None] - coords[:, None, :]).permute(1, 2, 0).contiguous()
        relative[:, :, 0] += window_size[0] - 1
        relative[:, :, 1] += window_size[1] - 1
        relative[:, :, 0] *= 2 * window_size[1] - 1
        self.register_buffer("relative_position_index", relative.sum(-1))
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x, mask=None):
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        q = q * self.scale
        attn = q @ k.transpose(-2, -1)
        relative_position_bias = self.relative_position_bias_table[self.relative_position_index.view(-1)].view(
            self.window_size[0] * self.window_size[1], self.window_size[0] * self.window_size[1], -1
        )
        relative_position_bias = relative_position_bias.permute(2, 0, 1).contiguous()
        attn = attn + relative_position_bias.unsqueeze(0)
        if mask is not None:
            nW = mask.shape[0]
            attn = attn.view(B_ // nW, nW, self.num_heads, N, N) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.num_heads, N, N)
        attn = self.softmax(attn)
        x = (attn @ v).transpose(1, 2).reshape(B_, N, C)
        return self.proj(x)


class SwinBlock(nn.Module):
    def __init__(self, dim, resolution, num_heads, window_size=4, shift_size=0, drop_path=0.0):
        super().__init__()
        self.resolution = resolution
        self.window_size, self.shift_size = window_size, shift_size
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, (window_size, window_size), num_heads)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim)
        attn_mask = None
        if self.shift_size > 0:
            H, W = resolution
            img_mask = torch.zeros((1, H, W, 1))
            slices = (slice(0, -window_size), slice(-window_size, -shift_size), slice(-shift_size, None))
            cnt = 0
            for h in slices:
                for w in slices:
                    img_mask[:, h, w, :] = cnt
                    cnt += 1
            mask_windows = window_partition(img_mask, window_size).view(-1, window_size * window_size)
            attn_mask = mask_windows.unsqueeze(1) - mask_windows.unsqueeze(2)
            attn_mask = attn_mask.masked_fill(attn_mask != 0, -100.0).masked_fill(attn_mask == 0, 0.0)
        self.register_buffer("attn_mask", attn_mask)

    def forward(self, x):
        H, W = self.resolution
        B, L, C = x.shape
        assert H * W == L, "input feature has wrong size"
        shortcut = x
        x = self.norm1(x)
        x = x.view(B, H, W, C)
        if self.shift_size > 0:
            shifted_x = torch.roll(x, shifts=(-self.shift_size, -self.shift_size), dims=(1, 2))
        else:
            shifted_x = x
        x_windows = window_partition(shifted_x, self.window_size)
        x_windows = x_windows.view(-1, self.window_size * self.window_size, C)
        attn_windows = self.attn(x_windows, mask=self.attn_mask)
        attn_windows = attn_windows.view(-1, self.window_size, self.window_size, C)
        shifted_x = window_reverse(attn_windows, self.window_size, H, W)
        if self.shift_size > 0:
            x = torch.roll(shifted_x, shifts=(self.shift_size, self.shift_size), dims=(1, 2))
        else:
            x = shifted_x
        x = x.view(B, H * W, C)
        x = shortcut + self.drop_path(x)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class PatchMerging(nn.Module):
    def __init__(self, resolution, dim):
        super().__init__()
        self.resolution = resolution
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x):
        H, W = self.resolution
        B, L, C = x.shape
        assert L == H * W, "input feature has wrong size"
        assert H % 2 == 0 and W % 2 == 0, f"x size ({H}*{W}) are not even."
        x = x.view(B, H, W, C)
        x0 = x[:, 0::2, 0::2, :]
        x1 = x[:, 1::2, 0::2, :]
        x2 = x[:, 0::2, 1::2, :]
        x3 = x[:, 1::2, 1::2, :]
        x = torch.cat([x0, x1, x2, x3], -1)
        x = x.view(B, -1, 4 * C)
        x = self.norm(x)
        return self.reduction(x)


class Swin(nn.Module):
    def __init__(self, size=32, patch=4, dim=24):
        super().__init__()
        r = size // patch
        self.patch_embed = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)
        self.layers = nn.Sequential(
            SwinBlock(dim, (r, r), 3),
            SwinBlock(dim, (r, r), 3, shift_size=2, drop_path=0.1),
            PatchMerging((r, r), dim),
            SwinBlock(2 * dim, (r // 2, r // 2), 6),
        )
        self.norm = nn.LayerNorm(2 * dim)
        self.avgpool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(2 * dim, 10)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = self.norm(self.layers(x))
        x = self.avgpool(x.transpose(1, 2))
        x = torch.flatten(x, 1)
        return self.head(x)


# DeiT (arXiv:2012.12877): a second token, the mean of two heads


class DistilledViT(nn.Module):
    def __init__(self, dim=24):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 16 + 2, dim))
        self.blocks = nn.ModuleList([Block(dim, 2, fused_attn=False) for _ in range(2)])
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, 10)
        self.head_dist = nn.Linear(dim, 10)

    def forward_features(self, x):
        B = x.shape[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        cls_tokens = self.cls_token.expand(B, -1, -1)
        dist_token = self.dist_token.expand(B, -1, -1)
        x = torch.cat((cls_tokens, dist_token, x), dim=1)
        x = x + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        x = self.norm(x)
        return x[:, 0], x[:, 1]

    def forward(self, x):
        x, x_dist = self.forward_features(x)
        x = self.head(x)
        x_dist = self.head_dist(x_dist)
        if self.training:
            return x, x_dist
        else:
            return (x + x_dist) / 2


# CaiT (arXiv:2103.17239): heads talk, LayerScale, a class token that comes late and alone asks


class TalkingHead(nn.Module):
    def __init__(self, dim, num_heads=4):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj_l = nn.Linear(num_heads, num_heads)
        self.proj_w = nn.Linear(num_heads, num_heads)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0] * self.scale, qkv[1], qkv[2]
        attn = q @ k.transpose(-2, -1)
        attn = self.proj_l(attn.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        attn = attn.softmax(dim=-1)
        attn = self.proj_w(attn.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class ClassAttention(nn.Module):
    def __init__(self, dim, num_heads=4):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        q = self.q(x[:, 0]).unsqueeze(1).reshape(B, 1, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        k = self.k(x).reshape(B, N, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        q = q * self.scale
        v = self.v(x).reshape(B, N, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        attn = q @ k.transpose(-2, -1)
        attn = attn.softmax(dim=-1)
        x_cls = (attn @ v).transpose(1, 2).reshape(B, 1, C)
        return self.proj(x_cls)


class CaiTBlock(nn.Module):
    def __init__(self, dim, attention, init_values=1e-4):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = attention(dim)
        self.mlp = Mlp(dim, 2 * dim)
        self.gamma_1 = nn.Parameter(init_values * torch.ones(dim), requires_grad=True)
        self.gamma_2 = nn.Parameter(init_values * torch.ones(dim), requires_grad=True)

    def forward(self, x, x_cls=None):
        if x_cls is None:
            x = x + self.gamma_1 * self.attn(self.norm1(x))
            return x + self.gamma_2 * self.mlp(self.norm2(x))
        u = torch.cat((x_cls, x), dim=1)
        x_cls = x_cls + self.gamma_1 * self.attn(self.norm1(u))
        return x_cls + self.gamma_2 * self.mlp(self.norm2(x_cls))


class CaiT(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, 8)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 16, dim))
        self.blocks = nn.ModuleList([CaiTBlock(dim, TalkingHead)])
        self.blocks_token_only = nn.ModuleList([CaiTBlock(dim, ClassAttention) for _ in range(2)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        B = x.shape[0]
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        cls_tokens = self.cls_token.expand(B, -1, -1)
        x = x + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        for blk in self.blocks_token_only:
            cls_tokens = blk(x, cls_tokens)
        x = torch.cat((cls_tokens, x), dim=1)
        x = self.norm(x)
        return self.head(x[:, 0])


# PiT (arXiv:2103.16302): tokens back into a map to be pooled by a strided depthwise convolution


class PiT(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, dim, 8, 4, 2)
        self.pos_embed = nn.Parameter(torch.zeros(1, dim, 8, 8))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.block1 = Block(dim, 2)
        self.pool = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1, groups=dim)
        self.fc = nn.Linear(dim, 2 * dim)
        self.block2 = Block(2 * dim, 4)
        self.norm = nn.LayerNorm(2 * dim, eps=1e-6)
        self.head = nn.Linear(2 * dim, 10)

    def forward(self, x):
        x = self.patch_embed(x)
        x = x + self.pos_embed
        cls_tokens = self.cls_token.expand(x.shape[0], -1, -1)
        h, w = x.shape[2:4]
        x = x.flatten(2).transpose(1, 2)
        token_length = cls_tokens.shape[1]
        x = self.block1(torch.cat((cls_tokens, x), dim=1))
        cls_tokens = x[:, :token_length]
        x = x[:, token_length:]
        x = x.transpose(1, 2).reshape(x.shape[0], x.shape[-1], h, w)
        x = self.pool(x)
        cls_tokens = self.fc(cls_tokens)
        x = self.block2(torch.cat((cls_tokens, x.flatten(2).transpose(1, 2)), dim=1))
        return self.head(self.norm(x)[:, 0])


# PVT (arXiv:2102.12122): keys and values from a smaller map


class SpatialReduction(nn.Module):
    def __init__(self, dim=16, num_heads=2, sr_ratio=2):
        super().__init__()
        self.num_heads, self.scale = num_heads, (dim // num_heads) ** -0.5
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.q = nn.Linear(dim, dim, bias=False)
        self.kv = nn.Linear(dim, dim * 2, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.sr = nn.Conv2d(dim, dim, kernel_size=sr_ratio, stride=sr_ratio)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, x):
        x = self.patch(x)
        H, W = x.shape[-2], x.shape[-1]
        x = x.flatten(2).transpose(1, 2)
        B, N, C = x.shape
        q = self.q(x).reshape(B, N, self.num_heads, C // self.num_heads).permute(0, 2, 1, 3)
        x_ = x.permute(0, 2, 1).reshape(B, C, H, W)
        x_ = self.sr(x_).reshape(B, C, -1).permute(0, 2, 1)
        x_ = self.norm(x_)
        kv = self.kv(x_).reshape(B, -1, 2, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        k, v = kv[0], kv[1]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        attn = attn.softmax(dim=-1)
        y = (attn @ v).transpose(1, 2).reshape(B, N, C)
        x = x + self.proj(y)
        return self.head(x.mean(-2))


# MobileViT (arXiv:2110.02178): a map unfolded into patches, a transformer over them, folded back


class MobileViTBlock(nn.Module):
    def __init__(self, in_channels, dim, patch=2):
        super().__init__()
        self.patch_h = self.patch_w = patch
        self.patch_area = patch * patch
        self.conv_kxk = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv_1x1 = nn.Conv2d(in_channels, dim, 1, bias=False)
        self.transformer = nn.Sequential(Block(dim, 2, 2.0), Block(dim, 2, 2.0))
        self.norm = nn.LayerNorm(dim)
        self.conv_proj = nn.Conv2d(dim, in_channels, 1, bias=False)
        self.conv_fusion = nn.Conv2d(2 * in_channels, in_channels, 3, padding=1, bias=False)

    def forward(self, x):
        shortcut = x
        x = self.conv_1x1(self.conv_kxk(x))
        B, C, H, W = x.shape
        new_h = math.ceil(H / self.patch_h) * self.patch_h
        new_w = math.ceil(W / self.patch_w) * self.patch_w
        num_patch_h, num_patch_w = new_h // self.patch_h, new_w // self.patch_w
        num_patches = num_patch_h * num_patch_w
        interpolate = False
        if new_h != H or new_w != W:
            x = F.interpolate(x, size=(new_h, new_w), mode="bilinear", align_corners=False)
            interpolate = True
        # [B, C, H, W] --> [B * C * n_h, n_w, p_h, p_w]
        x = x.reshape(B * C * num_patch_h, self.patch_h, num_patch_w, self.patch_w).transpose(1, 2)
        # [BP, N, C]: P = p_h * p_w and N = n_h * n_w
        x = x.reshape(B, C, num_patches, self.patch_area).transpose(1, 3).reshape(B * self.patch_area, num_patches, -1)
        x = self.norm(self.transformer(x))
        x = x.contiguous().view(B, self.patch_area, num_patches, -1)
        x = x.transpose(1, 3).reshape(B * C * num_patch_h, num_patch_w, self.patch_h, self.patch_w)
        x = x.transpose(1, 2).reshape(B, C, num_patch_h * self.patch_h, num_patch_w * self.patch_w)
        if interpolate:
            x = F.interpolate(x, size=(H, W), mode="bilinear", align_corners=False)
        x = self.conv_proj(x)
        return self.conv_fusion(torch.cat((shortcut, x), dim=1))


class MobileViT(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.block = MobileViTBlock(12, 16)
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean([2, 3]))


# CoAtNet (arXiv:2106.04803): a convolution stage, then attention over the map with relative positions by gather


class CoAtNet(nn.Module):
    def __init__(self, dim=16, heads=2, size=4):
        super().__init__()
        self.s0 = nn.Sequential(nn.Conv2d(3, dim, 3, 2, 1, bias=False), nn.BatchNorm2d(dim), nn.GELU())
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.heads, self.size = heads, size
        self.norm = nn.LayerNorm(dim)
        self.to_qkv = nn.Linear(dim, dim * 3, bias=False)
        self.to_out = nn.Linear(dim, dim)
        self.relative_bias_table = nn.Parameter(0.02 * torch.randn((2 * size - 1) ** 2, heads))
        coords = torch.flatten(torch.stack(torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")), 1)
        relative = coords[:, :, None] - coords[:, None, :] + size - 1
        index = (relative[0] * (2 * size - 1) + relative[1]).flatten().unsqueeze(1)
        self.register_buffer("relative_index", index)
        self.head = nn.Linear(dim, 10, bias=False)

    def forward(self, x):
        x = self.maxpool(self.s0(x))
        b, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(-1, -2))
        q, k, v = (
            t.reshape(b, h * w, self.heads, c // self.heads).transpose(1, 2)
            for t in self.to_qkv(tokens).chunk(3, dim=-1)
        )
        dots = torch.matmul(q, k.transpose(-1, -2)) * (c // self.heads) ** -0.5
        bias = self.relative_bias_table.gather(0, self.relative_index.repeat(1, self.heads))
        dots = dots + bias.view(h * w, h * w, self.heads).permute(2, 0, 1).unsqueeze(0)
        out = torch.matmul(torch.softmax(dots, dim=-1), v).transpose(1, 2).flatten(2)
        x = x + self.to_out(out).transpose(1, 2).reshape(b, c, h, w)
        return self.head(F.adaptive_avg_pool2d(x, 1).view(-1, c))


class CCT(nn.Module):
    """Compact transformer (arXiv:2104.05704): the sequence pooled by attention that it gives itself."""

    def __init__(self, dim=24):
        super().__init__()
        self.tokenizer = nn.Sequential(nn.Conv2d(3, dim, 3, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 4, 1))
        self.flattener = nn.Flatten(2, 3)
        self.attn = Attention(dim, 3, qkv_bias=False, fused_attn=False)
        self.attention_pool = nn.Linear(dim, 1)
        self.fc = nn.Linear(dim, 10)

    def forward(self, x):
        x = self.flattener(self.tokenizer(x)).transpose(-2, -1)
        x = x + self.attn(x)
        x = torch.matmul(F.softmax(self.attention_pool(x), dim=1).transpose(-1, -2), x).squeeze(-2)
        return self.fc(x)


hierarchical = partial(Fixture, family="hierarchical")
NETWORKS = {
    "swin": hierarchical(Swin, image(3, 32)),
    "deit_distilled": hierarchical(DistilledViT, image(3, 32)),
    "cait": hierarchical(CaiT, image(3, 32, batch=2)),
    "pit": hierarchical(PiT, image(3, 32)),
    "pvt": hierarchical(SpatialReduction, image(3, 32)),
    "mobilevit": hierarchical(MobileViT, image(3, 16)),
    "mobilevit_resized": hierarchical(MobileViT, image(3, 14)),
    "coatnet": hierarchical(CoAtNet, image(3, 16)),
    "cct": hierarchical(CCT, image(3, 16)),
}
