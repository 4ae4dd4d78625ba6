"""Learned queries, and samples beside other axes: detection, sets, slots, video."""

from __future__ import annotations

import math
import warnings
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image, noise


class Detr(nn.Module):
    """DETR (arXiv:2005.12872), the authors' demonstration: nn.Transformer, length first, learned queries."""

    def __init__(self, hidden=16, heads=2):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 24, 3, 4, 1), nn.ReLU())
        self.conv = nn.Conv2d(24, hidden, 1)
        with warnings.catch_warnings():  # about nested tensors, which it does not use
            warnings.simplefilter("ignore")
            self.transformer = nn.Transformer(hidden, heads, 1, 1, 32)
        self.linear_class = nn.Linear(hidden, 7)
        self.linear_bbox = nn.Linear(hidden, 4)
        self.query_pos = nn.Parameter(torch.rand(10, hidden))
        self.row_embed = nn.Parameter(torch.rand(50, hidden // 2))
        self.col_embed = nn.Parameter(torch.rand(50, hidden // 2))

    def forward(self, inputs):
        x = self.backbone(inputs)
        h = self.conv(x)
        H, W = h.shape[-2:]
        pos = (
            torch.cat(
                [self.col_embed[:W].unsqueeze(0).repeat(H, 1, 1), self.row_embed[:H].unsqueeze(1).repeat(1, W, 1)],
                dim=-1,
            )
            .flatten(0, 1)
            .unsqueeze(1)
        )
        h = self.transformer(
            pos + 0.1 * h.flatten(2).permute(2, 0, 1), self.query_pos.unsqueeze(1).repeat(1, inputs.shape[0], 1)
        ).transpose(0, 1)
        return torch.cat([self.linear_class(h), self.linear_bbox(h).sigmoid()], -1)


class AttentionPoolLatent(nn.Module):
    """Pooling by attention from a learned query, as in SigLIP (arXiv:2303.15343)."""

    def __init__(self, d=16):
        super().__init__()
        self.latent = nn.Parameter(torch.randn(1, 1, d))
        self.q = nn.Linear(d, d)
        self.kv = nn.Linear(d, 2 * d)
        self.proj = nn.Linear(d, d)
        self.norm = nn.LayerNorm(d)
        self.mlp = nn.Sequential(nn.Linear(d, 32), nn.GELU(), nn.Linear(32, d))
        self.patch = nn.Conv2d(3, d, 4, 4)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        B, N, C = x.shape
        ql = self.latent.expand(B, -1, -1)
        q = self.q(ql).reshape(B, 1, 4, 4).transpose(1, 2)
        kv = self.kv(x).reshape(B, N, 2, 4, 4).permute(2, 0, 3, 1, 4)
        k, v = kv.unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(B, 1, C)
        x = self.proj(x)
        x = x + self.mlp(self.norm(x))
        return x[:, 0]


class SetTransformer(nn.Module):
    """Set Transformer (arXiv:1810.00825): heads beside the batch, by cat of splits; inducing points."""

    class MAB(nn.Module):
        def __init__(self, dQ, dK, dV, h):
            super().__init__()
            self.dV, self.h = dV, h
            self.fc_q, self.fc_k, self.fc_v, self.fc_o = (
                nn.Linear(dQ, dV),
                nn.Linear(dK, dV),
                nn.Linear(dK, dV),
                nn.Linear(dV, dV),
            )

        def forward(self, Q, K):
            Q = self.fc_q(Q)
            K, V = self.fc_k(K), self.fc_v(K)
            ds = self.dV // self.h
            Q_ = torch.cat(Q.split(ds, 2), 0)
            K_ = torch.cat(K.split(ds, 2), 0)
            V_ = torch.cat(V.split(ds, 2), 0)
            A = torch.softmax(Q_.bmm(K_.transpose(1, 2)) / math.sqrt(self.dV), 2)
            out = torch.cat((Q_ + A.bmm(V_)).split(Q.size(0), 0), 2)
            return out + F.relu(self.fc_o(out))

    def __init__(self):
        super().__init__()
        self.I = nn.Parameter(torch.randn(1, 4, 16))
        self.m0 = self.MAB(16, 3, 16, 2)
        self.m1 = self.MAB(3, 16, 16, 2)
        self.S = nn.Parameter(torch.randn(1, 1, 16))
        self.p = self.MAB(16, 16, 16, 2)
        self.o = nn.Linear(16, 3)

    def forward(self, X):
        H = self.m0(self.I.repeat(X.size(0), 1, 1), X)
        X = self.m1(X, H)
        return self.o(self.p(self.S.repeat(X.size(0), 1, 1), X)).squeeze(1)


class SlotAttention(nn.Module):
    """Slot attention (arXiv:2006.15055): slots that compete, updated by a GRU cell."""

    def __init__(self, d=8, k=3):
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, k, d))
        self.ni, self.ns = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.gru = nn.GRUCell(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 16), nn.ReLU(), nn.Linear(16, d))
        self.d = d

    def forward(self, x):
        b, _, d = x.shape
        x = self.ni(x)
        k, v = self.k(x), self.v(x)
        sl = self.slots.expand(b, -1, -1)
        for _ in range(2):
            p = sl
            q = self.q(self.ns(sl))
            dots = torch.einsum("bid,bjd->bij", q, k) * d**-0.5
            a = dots.softmax(dim=1) + 1e-8
            a = a / a.sum(dim=-1, keepdim=True)
            u = torch.einsum("bjd,bij->bid", v, a)
            sl = self.gru(u.reshape(-1, d), p.reshape(-1, d)).reshape(b, -1, d)
            sl = sl + self.mlp(self.ns(sl))
        return sl


class TemporalShift(nn.Module):
    """Temporal shift (arXiv:1811.08383): frames in the batch, channels shifted between them by slices."""

    def __init__(self, T=4):
        super().__init__()
        self.T = T
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.bn = nn.BatchNorm2d(8)
        self.c2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 3)

    def shift(self, x):
        nt, c, h, w = x.size()
        nb = nt // self.T
        x = x.view(nb, self.T, c, h, w)
        fold = c // 4
        out = torch.zeros_like(x)
        out[:, :-1, :fold] = x[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = x[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = x[:, :, 2 * fold :]
        return out.view(nt, c, h, w)

    def forward(self, x):
        x = x.view((-1, 3) + x.size()[-2:])  # noqa: RUF005
        x = F.max_pool2d(F.relu(self.bn(self.conv(x))), 2)
        x = F.relu(self.c2(self.shift(x))) + x
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        x = self.fc(x)
        return x.view((-1, self.T) + x.size()[1:]).mean(dim=1)  # noqa: RUF005


class ViViT(nn.Module):
    """Factorized attention over video (arXiv:2103.15691): over time, then over space."""

    def __init__(self, d=16):
        super().__init__()
        self.emb = nn.Conv3d(3, d, (2, 4, 4), (2, 4, 4))
        self.ln = nn.LayerNorm(d)
        self.at = nn.MultiheadAttention(d, 2, batch_first=True)
        self.as_ = nn.MultiheadAttention(d, 2, batch_first=True)
        self.h = nn.Linear(d, 3)

    def forward(self, x):
        x = self.emb(x).flatten(3).permute(0, 2, 3, 1)
        b, t, n, d = x.shape
        y = x.permute(0, 2, 1, 3).reshape(b * n, t, d)
        y = y + self.at(self.ln(y), self.ln(y), self.ln(y), need_weights=False)[0]
        x = y.reshape(b, n, t, d).permute(0, 2, 1, 3)
        y = x.reshape(b * t, n, d)
        z = self.ln(y)
        y = y + self.as_(z, z, z)[0]
        return self.h(y.reshape(b, t * n, d).mean(1))


queries = partial(Fixture, family="queries")
NETWORKS = {
    "detr": queries(Detr, image(3, 32)),
    "attention_pool_latent": queries(AttentionPoolLatent, image(3, 16)),
    "set_transformer": queries(SetTransformer, noise(7, 3, batch=2)),
    "slot_attention": queries(SlotAttention, noise(7, 8)),
    "temporal_shift": queries(TemporalShift, noise(12, 16, 16, batch=2)),
    "vivit": queries(ViViT, noise(3, 4, 8, 8)),
}
