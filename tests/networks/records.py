"""Recommenders, tables, series, graphs, heads of detectors, and loops over time."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, image, noise, tokens


class GAT(nn.Module):
    """Graph attention (arXiv:1710.10903) on a fixed graph."""

    def __init__(self, n=6, f=5, o=8):
        super().__init__()
        self.W = nn.Parameter(torch.randn(f, o) * 0.3)
        self.a = nn.Parameter(torch.randn(2 * o, 1) * 0.3)
        adj = torch.eye(n) + torch.eye(n).roll(1, 0)
        self.register_buffer("adj", adj)
        self.lrelu = nn.LeakyReLU(0.2)
        self.o = o
        self.fc = nn.Linear(o, 3)

    def forward(self, h):
        Wh = torch.matmul(h, self.W)
        Wh1 = torch.matmul(Wh, self.a[: self.o, :])
        Wh2 = torch.matmul(Wh, self.a[self.o :, :])
        e = self.lrelu(Wh1 + Wh2.transpose(1, 2))
        zero = -9e15 * torch.ones_like(e)
        att = torch.where(self.adj > 0, e, zero)
        att = F.softmax(att, dim=-1)
        return self.fc(F.elu(torch.matmul(att, Wh)).mean(1))


class DeepFM(nn.Module):
    """DeepFM (arXiv:1703.04247): fields in one table by offsets; squares of sums."""

    def __init__(self, dims=(5, 7, 3), d=4):
        super().__init__()
        self.emb = nn.Embedding(sum(dims), d)
        self.lin = nn.Embedding(sum(dims), 1)
        self.bias = nn.Parameter(torch.zeros(1))
        self.offsets = torch.tensor([0, 5, 12])
        self.mlp = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x):
        x = x + x.new_tensor([0, 5, 12]).unsqueeze(0)
        e = self.emb(x)
        fm = 0.5 * (torch.sum(e, dim=1) ** 2 - torch.sum(e**2, dim=1)).sum(1, keepdim=True)
        y = torch.sum(self.lin(x), dim=1) + self.bias + fm + self.mlp(e.view(-1, 12))
        return torch.sigmoid(y.squeeze(1))


class DLRM(nn.Module):
    """DLRM (arXiv:1906.00091): numbers and ids in one input, products of all pairs."""

    def __init__(self):
        super().__init__()
        self.bot = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.embs = nn.ModuleList([nn.Embedding(n, 8) for n in (5, 6)])
        self.top = nn.Linear(8 + 3, 1)

    def forward(self, x):
        dense, sp = x[:, :4], x[:, 4:].long().clamp(0, 4)
        d = self.bot(dense)
        ly = [e(sp[:, i]) for i, e in enumerate(self.embs)]
        T = torch.cat([d, *ly], dim=1).view(x.shape[0], -1, 8)
        Z = torch.bmm(T, T.transpose(1, 2))
        ni, nj = Z.shape[1], Z.shape[2]
        li = torch.tensor([i for i in range(ni) for j in range(i)])
        lj = torch.tensor([j for i in range(nj) for j in range(i)])
        return self.top(torch.cat([d, Z[:, li, lj]], dim=1))


class SASRec(nn.Module):
    """SASRec (arXiv:1808.09781): masks made from the ids, scores against the embedding."""

    def __init__(self, n=20, d=8, L=6):
        super().__init__()
        self.item = nn.Embedding(n, d, padding_idx=0)
        self.pos = nn.Embedding(L, d)
        self.ln = nn.LayerNorm(d, eps=1e-8)
        self.att = nn.MultiheadAttention(d, 2, 0.1)
        self.f1, self.f2 = nn.Conv1d(d, d, 1), nn.Conv1d(d, d, 1)
        self.d = d

    def forward(self, seq):
        x = self.item(seq) * (self.d**0.5)
        p = torch.arange(seq.shape[1]).unsqueeze(0).expand(seq.shape[0], -1)
        x = x + self.pos(p)
        tm = seq == 0
        x = x * (~tm).unsqueeze(-1)
        L = x.shape[1]
        am = ~torch.tril(torch.ones((L, L), dtype=torch.bool))
        x = x.transpose(0, 1)
        Q = self.ln(x)
        m, _ = self.att(Q, x, x, attn_mask=am)
        x = (Q + m).transpose(0, 1)
        y = self.f2(F.relu(self.f1(x.transpose(-1, -2)))).transpose(-1, -2)
        x = x + y
        x = x * ~tm.unsqueeze(-1)
        return torch.matmul(x[:, -1], self.item.weight.t())


class FTTransformer(nn.Module):
    """FT-Transformer (arXiv:2106.11959): a token for each column of a table."""

    def __init__(self, n=5, d=8):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n + 1, d))
        self.bias = nn.Parameter(torch.randn(n, d))
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(d, d) for _ in range(4))
        self.l0 = nn.Linear(d, 16)
        self.l1 = nn.Linear(8, d)
        self.n0, self.n1 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.head = nn.Linear(d, 2)

    def forward(self, x):
        x = torch.cat([torch.ones(len(x), 1, device=x.device), x], dim=1)
        x = self.weight[None] * x[:, :, None]
        bias = torch.cat([torch.zeros(1, self.bias.shape[1]), self.bias])
        x = x + bias[None]
        q, k, v = self.W_q(x), self.W_k(x), self.W_v(x)
        b, n, _ = q.shape
        q, k, v = (t.reshape(b, -1, 2, 4).transpose(1, 2).reshape(b * 2, -1, 4) for t in (q, k, v))
        a = F.softmax(q @ k.transpose(1, 2) / 4**0.5, dim=-1)
        y = a @ v
        y = y.reshape(b, 2, n, 4).transpose(1, 2).reshape(b, n, 8)
        x = self.n0(x + self.W_o(y))
        a, g = self.l0(x).chunk(2, dim=-1)
        x = self.n1(x + self.l1(a * F.relu(g)))
        return self.head(F.relu(x[:, 0]))


class PatchTST(nn.Module):
    """PatchTST (arXiv:2211.14730): overlapping windows by unfold, channels in the batch, reversible normalization."""

    def __init__(self):
        super().__init__()
        self.pad = nn.ReplicationPad1d((0, 4))
        self.W = nn.Linear(8, 16)
        self.Wp = nn.Parameter(torch.randn(1, 1, 7, 16) * 0.1)
        self.enc = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16 * 7, 5)
        self.aw, self.ab = nn.Parameter(torch.ones(3)), nn.Parameter(torch.zeros(3))

    def forward(self, x):  # b,L,C
        mean = x.mean(1, keepdim=True).detach()
        std = torch.sqrt(torch.var(x, dim=1, keepdim=True, unbiased=False) + 1e-5).detach()
        x = (x - mean) / std * self.aw + self.ab
        x = x.permute(0, 2, 1)
        z = self.pad(x).unfold(dimension=-1, size=8, step=4)
        z = self.W(z) + self.Wp
        b, c, n, d = z.shape
        z = self.enc(z.reshape(b * c, n, d)).reshape(b, c, n, d).permute(0, 1, 3, 2)
        y = self.head(z.flatten(start_dim=-2)).permute(0, 2, 1)
        return (y - self.ab) / (self.aw + 1e-10) * std + mean


class STN(nn.Module):
    """Spatial transformer (arXiv:1506.02025)."""

    def __init__(self):
        super().__init__()
        self.loc = nn.Sequential(nn.Conv2d(1, 8, 7), nn.MaxPool2d(2, stride=2), nn.ReLU(True))
        self.fc_loc = nn.Sequential(nn.Linear(8 * 5 * 5, 32), nn.ReLU(True), nn.Linear(32, 6))
        self.fc_loc[2].weight.data.zero_()
        self.fc_loc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.conv = nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        xs = self.loc(x).view(-1, 8 * 5 * 5)
        theta = self.fc_loc(xs).view(-1, 2, 3)
        g = F.affine_grid(theta, x.size(), align_corners=False)
        x = F.grid_sample(x, g, align_corners=False)
        return F.log_softmax(self.fc(F.relu(self.conv(x)).mean((2, 3))), dim=1)


class RealNVP(nn.Module):
    """RealNVP (arXiv:1605.08803): coupling layers by masks, the logarithm of a determinant beside the values."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.tensor([[0.0, 1, 0, 1], [1, 0, 1, 0]]))
        self.t = nn.ModuleList([nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 4)) for _ in range(2)])
        self.s = nn.ModuleList(
            [nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(), nn.Linear(8, 4), nn.Tanh()) for _ in range(2)]
        )

    def forward(self, x):
        z = x
        ld = x.new_zeros(x.shape[0])
        for i in reversed(range(2)):
            z_ = self.mask[i] * z
            sc = self.s[i](z_) * (1 - self.mask[i])
            t = self.t[i](z_) * (1 - self.mask[i])
            z = (1 - self.mask[i]) * (z - t) * torch.exp(-sc) + z_
            ld -= sc.sum(dim=1)
        return torch.cat([z, ld.unsqueeze(1)], 1)


class NetVLAD(nn.Module):
    """NetVLAD (arXiv:1511.07247): residuals to centroids, written into slices one by one."""

    def __init__(self, K=4, D=8):
        super().__init__()
        self.stem = nn.Conv2d(3, D, 3, 2, 1)
        self.conv = nn.Conv2d(D, K, 1)
        self.centroids = nn.Parameter(torch.rand(K, D))
        self.K = K

    def forward(self, x):
        x = self.stem(x)
        N, C = x.shape[:2]
        x = F.normalize(x, p=2, dim=1)
        sa = F.softmax(self.conv(x).view(N, self.K, -1), dim=1)
        xf = x.view(N, C, -1)
        vlad = torch.zeros([N, self.K, C], dtype=x.dtype, layout=x.layout, device=x.device)
        for c in range(self.K):
            r = xf.unsqueeze(0).permute(1, 0, 2, 3) - self.centroids[c : c + 1, :].expand(xf.size(-1), -1, -1).permute(
                1, 2, 0
            ).unsqueeze(0)
            r *= sa[:, c : c + 1, :].unsqueeze(2)
            vlad[:, c : c + 1, :] = r.sum(dim=-1)
        vlad = F.normalize(vlad, p=2, dim=2).view(x.size(0), -1)
        return F.normalize(vlad, p=2, dim=1)


class SSDHeads(nn.Module):
    """Heads of SSD (arXiv:1512.02325) on two maps, one of them normalized by hand."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.c2 = nn.Conv2d(8, 8, 3, 2, 1)
        self.l2w = nn.Parameter(torch.full((8,), 20.0))
        self.loc = nn.ModuleList([nn.Conv2d(8, 8, 3, padding=1) for _ in range(2)])
        self.conf = nn.ModuleList([nn.Conv2d(8, 6, 3, padding=1) for _ in range(2)])

    def forward(self, x):
        a = F.relu(self.c1(x))
        n = a.pow(2).sum(dim=1, keepdim=True).sqrt() + 1e-10
        an = torch.div(a, n)
        an = self.l2w.unsqueeze(0).unsqueeze(2).unsqueeze(3).expand_as(an) * an
        b = F.relu(self.c2(a))
        loc, conf = [], []
        for f, box, c in zip([an, b], self.loc, self.conf, strict=True):
            loc.append(box(f).permute(0, 2, 3, 1).contiguous())
            conf.append(c(f).permute(0, 2, 3, 1).contiguous())
        loc = torch.cat([o.view(o.size(0), -1) for o in loc], 1)
        conf = torch.cat([o.view(o.size(0), -1) for o in conf], 1)
        return torch.cat([loc.view(loc.size(0), -1, 4), conf.view(conf.size(0), -1, 3).softmax(-1)], -1)


class YoloHead(nn.Module):
    """Head of YOLOv5: boxes decoded in place."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 18, 3, 4, 1)
        self.register_buffer("anchors", torch.tensor([[1.0, 2], [3, 4], [5, 6]]))

    def forward(self, x):
        x = self.c(x)
        bs, _, ny, nx = x.shape
        x = x.view(bs, 3, 6, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
        yv, xv = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
        grid = torch.stack((xv, yv), 2).expand(1, 3, ny, nx, 2).float()
        y = x.sigmoid()
        y[..., 0:2] = (y[..., 0:2] * 2.0 - 0.5 + grid) * 4
        y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * self.anchors.view(1, 3, 1, 1, 2)
        return y.view(bs, -1, 6)


class GRULoop(nn.Module):
    """A GRU cell in a loop over time (arXiv:1406.1078)."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        h = torch.zeros(x.size(0), 8)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return self.fc(h)


class TokenShift(nn.Module):
    """Token shift and decay as in RWKV (arXiv:2305.13048), in a loop over time."""

    def __init__(self, d=8):
        super().__init__()
        self.shift = nn.ZeroPad2d((0, 0, 1, -1))
        self.tmk = nn.Parameter(torch.rand(1, 1, d))
        self.k, self.v, self.r = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.decay = nn.Parameter(torch.rand(d))
        self.o = nn.Linear(d, d)

    def forward(self, x):
        B, T, C = x.shape
        xx = self.shift(x)
        xk = x * self.tmk + xx * (1 - self.tmk)
        k, v, r = self.k(xk), self.v(xk), torch.sigmoid(self.r(xk))
        w = torch.exp(-torch.exp(self.decay))
        st = torch.zeros(B, C)
        out = []
        for t in range(T):
            st = st * w + torch.exp(k[:, t]) * v[:, t]
            out.append(st)
        return self.o(r * torch.stack(out, 1))


class SelectiveStates(nn.Module):
    """Selective state space as in Mamba (arXiv:2312.00752), in a loop over time."""

    def __init__(self, d=8, n=4):
        super().__init__()
        self.inp = nn.Linear(d, 2 * d)
        self.conv = nn.Conv1d(d, d, 4, groups=d, padding=3)
        self.xp = nn.Linear(d, 1 + 2 * n)
        self.dt = nn.Linear(1, d)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, n + 1).float().repeat(d, 1)))
        self.D = nn.Parameter(torch.ones(d))
        self.out = nn.Linear(d, d, bias=False)
        self.n = n

    def forward(self, x):
        b, length, _ = x.shape
        x, res = self.inp(x).split([8, 8], dim=-1)
        x = self.conv(x.transpose(1, 2))[:, :, :length].transpose(1, 2)
        x = F.silu(x)
        A = -torch.exp(self.A_log.float())
        D = self.D.float()
        delta, B, C = self.xp(x).split([1, self.n, self.n], dim=-1)
        delta = F.softplus(self.dt(delta))
        dA = torch.exp(torch.einsum("bld,dn->bldn", delta, A))
        dBu = torch.einsum("bld,bln,bld->bldn", delta, B, x)
        h = torch.zeros((b, 8, self.n))
        ys = []
        for i in range(length):
            h = dA[:, i] * h + dBu[:, i]
            ys.append(torch.einsum("bdn,bn->bd", h, C[:, i, :]))
        y = torch.stack(ys, dim=1) + x * D
        return self.out(y * F.silu(res))


records = partial(Fixture, family="records")
NETWORKS = {
    "gat": records(GAT, noise(6, 5)),
    "deep_fm": records(DeepFM, tokens(3, 3, batch=2)),
    "dlrm": records(DLRM, noise(6, batch=3)),
    "sasrec": records(SASRec, tokens(6, 20, batch=2)),
    "ft_transformer": records(FTTransformer, noise(5, batch=2)),
    "patch_tst": records(PatchTST, noise(28, 3, batch=2)),
    "stn": records(STN, image(1, 16)),
    "real_nvp": records(RealNVP, noise(4, batch=2)),
    "net_vlad": records(NetVLAD, image(3, 8)),
    "ssd_heads": records(SSDHeads, image(3, 12)),
    "yolo_head": records(YoloHead, image(3, 16)),
    "gru_loop": records(GRULoop, noise(5, 4, batch=2)),
    "token_shift": records(TokenShift, noise(5, 8)),
    "selective_states": records(SelectiveStates, noise(6, 8)),
}
