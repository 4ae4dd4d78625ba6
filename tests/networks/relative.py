"""Attention with relative positions: tables that are looked up, computed or shifted, and their like."""

from __future__ import annotations

import itertools
import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image, noise, tokens


class PatchEmbed(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.proj = nn.Conv2d(3, c, 4, 4)
        self.norm = nn.LayerNorm(c)

    def forward(self, x):
        _, _, H, W = x.shape
        assert H == 32 and W == 32, f"Input image size ({H}*{W}) doesn't match model"
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


def window_partition(x, ws):
    B, H, W, C = x.shape
    x = x.view(B, H // ws, ws, W // ws, ws, C)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, ws, ws, C)


def window_reverse(windows, ws, H, W):
    B = int(windows.shape[0] / (H * W / ws / ws))
    x = windows.view(B, H // ws, W // ws, ws, ws, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(B, H, W, -1)


class SwinV2Attention(nn.Module):
    def __init__(self, dim=16, ws=4, heads=2):
        super().__init__()
        self.dim, self.ws, self.h = dim, ws, heads
        self.logit_scale = nn.Parameter(torch.log(10 * torch.ones((heads, 1, 1))))
        self.cpb_mlp = nn.Sequential(nn.Linear(2, 32), nn.ReLU(inplace=True), nn.Linear(32, heads, bias=False))
        r = torch.arange(-(ws - 1), ws, dtype=torch.float32)
        t = torch.stack(torch.meshgrid([r, r], indexing="ij")).permute(1, 2, 0).contiguous().unsqueeze(0) / (ws - 1) * 8
        t = torch.sign(t) * torch.log2(torch.abs(t) + 1.0) / math.log2(8)
        self.register_buffer("relative_coords_table", t, persistent=False)
        co = torch.flatten(torch.stack(torch.meshgrid([torch.arange(ws)] * 2, indexing="ij")), 1)
        rel = (co[:, :, None] - co[:, None, :]).permute(1, 2, 0).contiguous() + ws - 1
        rel[:, :, 0] *= 2 * ws - 1
        self.register_buffer("relative_position_index", rel.sum(-1), persistent=False)
        self.qkv = nn.Linear(dim, dim * 3, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim))
        self.v_bias = nn.Parameter(torch.zeros(dim))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x, mask=None):
        B_, N, C = x.shape
        qkv_bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias, requires_grad=False), self.v_bias))
        qkv = (
            F.linear(input=x, weight=self.qkv.weight, bias=qkv_bias)
            .reshape(B_, N, 3, self.h, -1)
            .permute(2, 0, 3, 1, 4)
        )
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        attn = attn * torch.clamp(self.logit_scale, max=math.log(1.0 / 0.01)).exp()
        tab = self.cpb_mlp(self.relative_coords_table).view(-1, self.h)
        b = tab[self.relative_position_index.view(-1)].view(N, N, -1).permute(2, 0, 1).contiguous()
        attn = attn + (16 * torch.sigmoid(b)).unsqueeze(0)
        if mask is not None:
            nW = mask.shape[0]
            attn = attn.view(B_ // nW, nW, self.h, N, N) + mask.unsqueeze(1).unsqueeze(0)
            attn = attn.view(-1, self.h, N, N)
        attn = attn.softmax(-1)
        return self.proj((attn @ v).transpose(1, 2).reshape(B_, N, C))


class SwinV2(nn.Module):
    """Swin V2 (arXiv:2111.09883): biases by an MLP over relative coordinates, cosine attention, shifted windows."""

    def __init__(self):
        super().__init__()
        self.pe = PatchEmbed()
        self.a1 = SwinV2Attention()
        self.a2 = SwinV2Attention()
        self.n1, self.n2 = nn.LayerNorm(16), nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)
        H = W = 8
        ws = 4
        ss = 2
        img = torch.zeros((1, H, W, 1))
        cnt = 0
        for h in (slice(0, -ws), slice(-ws, -ss), slice(-ss, None)):
            for w in (slice(0, -ws), slice(-ws, -ss), slice(-ss, None)):
                img[:, h, w, :] = cnt
                cnt += 1
        mw = window_partition(img, ws).view(-1, ws * ws)
        am = mw.unsqueeze(1) - mw.unsqueeze(2)
        self.register_buffer("attn_mask", am.masked_fill(am != 0, -100.0).masked_fill(am == 0, 0.0))

    def block(self, x, attn, norm, shift):
        B, _, C = x.shape
        H = W = 8
        sc = x
        x = x.view(B, H, W, C)
        if shift:
            x = torch.roll(x, shifts=(-shift, -shift), dims=(1, 2))
        w = window_partition(x, 4).view(-1, 16, C)
        w = attn(w, mask=self.attn_mask if shift else None).view(-1, 4, 4, C)
        x = window_reverse(w, 4, H, W)
        if shift:
            x = torch.roll(x, shifts=(shift, shift), dims=(1, 2))
        return sc + norm(x.view(B, H * W, C))

    def forward(self, x):
        x = self.pe(x)
        x = self.block(x, self.a1, self.n1, 0)
        x = self.block(x, self.a2, self.n2, 2)
        return self.head(x.mean(1))


class T5Attention(nn.Module):
    def __init__(self, d=16, h=4, has_bias=True):
        super().__init__()
        self.h = h
        self.q, self.k, self.v, self.o = (nn.Linear(d, d, bias=False) for _ in range(4))
        if has_bias:
            self.relative_attention_bias = nn.Embedding(8, h)

    @staticmethod
    def bucket(rp, num_buckets=8, max_distance=16):
        rb = 0
        num_buckets //= 2
        rb = rb + (rp > 0).to(torch.long) * num_buckets
        rp = torch.abs(rp)
        max_exact = num_buckets // 2
        small = rp < max_exact
        large = max_exact + (
            torch.log(rp.float() / max_exact) / math.log(max_distance / max_exact) * (num_buckets - max_exact)
        ).to(torch.long)
        large = torch.min(large, torch.full_like(large, num_buckets - 1))
        return rb + torch.where(small, rp, large)

    def compute_bias(self, q, k, device):
        c = torch.arange(q, dtype=torch.long, device=device)[:, None]
        m = torch.arange(k, dtype=torch.long, device=device)[None, :]
        return self.relative_attention_bias(self.bucket(m - c)).permute([2, 0, 1]).unsqueeze(0)

    def forward(self, x, pb=None):
        b, n, _ = x.shape
        q, k, v = (f(x).view(b, -1, self.h, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        sc = torch.matmul(q, k.transpose(3, 2))
        if pb is None:
            pb = self.compute_bias(n, n, x.device)
        sc += pb
        w = F.softmax(sc.float(), dim=-1).type_as(sc)
        return self.o(torch.matmul(w, v).transpose(1, 2).contiguous().view(b, -1, 16)), pb


class T5Norm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.eps = 1e-6

    def forward(self, h):
        v = h.to(torch.float32).pow(2).mean(-1, keepdim=True)
        h = h * torch.rsqrt(v + self.eps)
        if self.weight.dtype in [torch.float16, torch.bfloat16]:
            h = h.to(self.weight.dtype)
        return self.weight * h


class T5(nn.Module):
    """T5 (arXiv:1910.10683): buckets of relative positions, computed while it runs, shared by layers; tied head."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Embedding(50, 16)
        self.a = nn.ModuleList([T5Attention(), T5Attention(has_bias=False)])
        self.n = nn.ModuleList([T5Norm(16) for _ in range(5)])
        self.wi = nn.ModuleList([nn.Linear(16, 32, bias=False) for _ in range(2)])
        self.wo = nn.ModuleList([nn.Linear(32, 16, bias=False) for _ in range(2)])
        self.lm_head = nn.Linear(16, 50, bias=False)
        self.lm_head.weight = self.shared.weight

    def forward(self, ids):
        x = self.shared(ids)
        pb = None
        for i in range(2):
            y, pb = self.a[i](self.n[2 * i](x), pb)
            x = x + y
            x = x + self.wo[i](F.relu(self.wi[i](self.n[2 * i + 1](x))))
        return self.lm_head(self.n[4](x) * (16**-0.5))


class BertTied(nn.Module):
    """BERT with its head (arXiv:1810.04805): tied to the embedding, with a bias of its own; padding masked by ids."""

    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(40, 16, padding_idx=0)
        self.pos = nn.Embedding(32, 16)
        self.tok = nn.Embedding(2, 16)
        self.ln = nn.LayerNorm(16, eps=1e-12)
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16) for _ in range(4))
        self.transform = nn.Linear(16, 16)
        self.ln2 = nn.LayerNorm(16)
        self.decoder = nn.Linear(16, 40)
        self.decoder.weight = self.word.weight
        self.register_buffer("position_ids", torch.arange(32).expand((1, -1)))

    def forward(self, ids):
        b, n = ids.shape
        att = ids != 0
        ext = att[:, None, None, :].to(dtype=torch.float32)
        ext = (1.0 - ext) * torch.finfo(torch.float32).min
        tt = torch.zeros((b, n), dtype=torch.long, device=ids.device)
        e = self.ln(self.word(ids) + self.tok(tt) + self.pos(self.position_ids[:, :n]))
        q, k, v = (f(e).view(b, n, 2, 8).permute(0, 2, 1, 3) for f in (self.q, self.k, self.v))
        sc = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(8)
        p = F.softmax(sc + ext, dim=-1)
        c = torch.matmul(p, v).permute(0, 2, 1, 3).contiguous().view(b, n, 16)
        h = self.ln2(F.gelu(self.transform(self.o(c) + e)))
        return self.decoder(h)


class RelativeShift(nn.Module):
    """Transformer-XL (arXiv:1901.02860), as in Conformer: relative positions shifted by padding and a view."""

    def __init__(self, d=16, h=2, L=12):
        super().__init__()
        self.h, self.dk = h, d // h
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.pos = nn.Linear(d, d, bias=False)
        self.u = nn.Parameter(torch.randn(h, d // h))
        self.vb = nn.Parameter(torch.randn(h, d // h))
        pe = torch.zeros(L, d)
        p = torch.arange(L).float().unsqueeze(1)
        dv = torch.exp(torch.arange(0, d, 2).float() * -(math.log(10000.0) / d))
        pe[:, 0::2] = torch.sin(p * dv)
        pe[:, 1::2] = torch.cos(p * dv)
        self.register_buffer("pe", pe.unsqueeze(0))

    def rel_shift(self, x):
        zp = torch.zeros((x.size(0), x.size(1), x.size(2), 1), device=x.device, dtype=x.dtype)
        xp = torch.cat([zp, x], dim=-1).view(x.size(0), x.size(1), x.size(3) + 1, x.size(2))
        return xp[:, :, 1:].view_as(x)

    def forward(self, x):
        n, t, _ = x.shape
        q = self.q(x).view(n, -1, self.h, self.dk)
        k = self.k(x).view(n, -1, self.h, self.dk).transpose(1, 2)
        v = self.v(x).view(n, -1, self.h, self.dk).transpose(1, 2)
        p = self.pos(self.pe[:, :t]).view(1, -1, self.h, self.dk).transpose(1, 2)
        qu = (q + self.u).transpose(1, 2)
        qv = (q + self.vb).transpose(1, 2)
        ac = torch.matmul(qu, k.transpose(-2, -1))
        bd = self.rel_shift(torch.matmul(qv, p.transpose(-2, -1)))
        a = torch.softmax((ac + bd) / math.sqrt(self.dk), dim=-1)
        return self.o(torch.matmul(a, v).transpose(1, 2).contiguous().view(n, -1, self.h * self.dk))


class LeViT(nn.Module):
    """LeViT (arXiv:2104.01136): batch norms over tokens, a table of biases looked up by offsets."""

    def __init__(self, d=16, h=2, res=4):
        super().__init__()
        self.h, self.kd = h, 4
        self.dv = 8
        self.stem = nn.Sequential(nn.Conv2d(3, d, 3, 8, 1, bias=False), nn.BatchNorm2d(d), nn.Hardswish())
        self.qkv = nn.Linear(d, h * (2 * 4 + 8), bias=False)
        self.bn = nn.BatchNorm1d(h * 16)
        self.proj = nn.Linear(h * 8, d, bias=False)
        self.bnp = nn.BatchNorm1d(d)
        pts = list(itertools.product(range(res), range(res)))
        off = {}
        idx = []
        for a in pts:
            for b in pts:
                o = (abs(a[0] - b[0]), abs(a[1] - b[1]))
                if o not in off:
                    off[o] = len(off)
                idx.append(off[o])
        self.attention_biases = nn.Parameter(torch.randn(h, len(off)))
        self.register_buffer("attention_bias_idxs", torch.LongTensor(idx).view(len(pts), len(pts)))
        self.head = nn.Linear(d, 3)

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        B, N, _ = x.shape
        qkv = self.qkv(x)
        qkv = self.bn(qkv.flatten(0, 1)).reshape_as(qkv)
        q, k, v = qkv.view(B, N, self.h, -1).split([4, 4, 8], dim=3)
        q, k, v = (t.permute(0, 2, 1, 3) for t in (q, k, v))
        attn = (q @ k.transpose(-2, -1)) * 0.5 + self.attention_biases[:, self.attention_bias_idxs]
        y = (attn.softmax(-1) @ v).transpose(1, 2).reshape(B, N, -1)
        y = self.proj(F.hardswish(y))
        y = self.bnp(y.flatten(0, 1)).reshape_as(y)
        return self.head((x + y).mean(1))


class AxialAttention(nn.Module):
    """Axial attention (arXiv:2003.07853): columns in the batch, relative positions for queries, keys and values."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Conv1d(8, 16, 1, bias=False)
        self.bnq = nn.BatchNorm1d(16)
        self.rel = nn.Parameter(torch.randn(8, 15))
        fi = torch.arange(8).unsqueeze(0) - torch.arange(8).unsqueeze(1) + 7
        self.register_buffer("flat", fi.view(-1))
        self.stem = nn.Conv2d(3, 8, 1)
        self.bns = nn.BatchNorm2d(6)

    def forward(self, x):
        x = self.stem(x).permute(0, 3, 1, 2)
        N, W, C, H = x.shape
        x = x.contiguous().view(N * W, C, H)
        qkv = self.bnq(self.qkv(x))
        q, k, v = torch.split(qkv.reshape(N * W, 2, 8, H), [2, 2, 4], dim=2)
        emb = torch.index_select(self.rel, 1, self.flat).view(8, 8, 8)
        qe, ke, ve = torch.split(emb, [2, 2, 4], dim=0)
        qr = torch.einsum("bgci,cij->bgij", q, qe)
        kr = torch.einsum("bgci,cij->bgij", k, ke).transpose(2, 3)
        qk = torch.einsum("bgci,bgcj->bgij", q, k)
        st = torch.cat([qk, qr, kr], dim=1)
        st = self.bns(st).view(N * W, 3, 2, H, H).sum(dim=1)
        sim = F.softmax(st, dim=3)
        sv = torch.einsum("bgij,bgcj->bgci", sim, v)
        sve = torch.einsum("bgij,cij->bgci", sim, ve)
        out = (sv + sve).reshape(N, W, 8, H)
        return out.permute(0, 2, 3, 1)


relative = partial(Fixture, family="relative")
NETWORKS = {
    "swin_v2": relative(SwinV2, image(3, 32)),
    "t5": relative(T5, tokens(12, 50, batch=2)),
    "bert_tied": relative(BertTied, tokens(10, 40, batch=2)),
    "relative_shift": relative(RelativeShift, noise(9, 16, batch=2)),
    "levit": relative(LeViT, image(3, 32)),
    "axial_attention": relative(AxialAttention, image(3, 8)),
}
