"""Encoders and decoders of text: BERT, LLaMA, PyTorch's own transformer layers, convolutions over words."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from tests.networks.fixture import Fixture, noise, tokens

# BERT (arXiv:1810.04805), the manner of Hugging Face: post-norm, sizes as tuples that are added, an additive mask


class BertEmbeddings(nn.Module):
    def __init__(self, vocab, dim, length):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab, dim, padding_idx=0)
        self.position_embeddings = nn.Embedding(length, dim)
        self.token_type_embeddings = nn.Embedding(2, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("position_ids", torch.arange(length).expand((1, -1)), persistent=False)

    def forward(self, input_ids):
        input_shape = input_ids.size()
        seq_length = input_shape[1]
        position_ids = self.position_ids[:, :seq_length]
        token_type_ids = torch.zeros(input_shape, dtype=torch.long, device=input_ids.device)
        embeddings = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        embeddings += self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(embeddings))


class BertSelfAttention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.num_attention_heads = heads
        self.attention_head_size = int(dim / heads)
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.query = nn.Linear(dim, self.all_head_size)
        self.key = nn.Linear(dim, self.all_head_size)
        self.value = nn.Linear(dim, self.all_head_size)
        self.dropout = nn.Dropout(0.1)

    def transpose_for_scores(self, x):
        new_x_shape = x.size()[:-1] + (self.num_attention_heads, self.attention_head_size)  # noqa: RUF005
        x = x.view(*new_x_shape)
        return x.permute(0, 2, 1, 3)

    def forward(self, hidden_states, attention_mask=None):
        query_layer = self.transpose_for_scores(self.query(hidden_states))
        key_layer = self.transpose_for_scores(self.key(hidden_states))
        value_layer = self.transpose_for_scores(self.value(hidden_states))
        attention_scores = torch.matmul(query_layer, key_layer.transpose(-1, -2))
        attention_scores = attention_scores / math.sqrt(self.attention_head_size)
        if attention_mask is not None:
            attention_scores = attention_scores + attention_mask
        attention_probs = nn.Softmax(dim=-1)(attention_scores)
        attention_probs = self.dropout(attention_probs)
        context_layer = torch.matmul(attention_probs, value_layer)
        context_layer = context_layer.permute(0, 2, 1, 3).contiguous()
        new_shape = context_layer.size()[:-2] + (self.all_head_size,)  # noqa: RUF005
        return (context_layer.view(new_shape),)


class BertLayer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.attention = BertSelfAttention(dim, heads)
        self.output = nn.Linear(dim, dim)
        self.LayerNorm1 = nn.LayerNorm(dim, eps=1e-12)
        self.intermediate = nn.Linear(dim, 4 * dim)
        self.dense = nn.Linear(4 * dim, dim)
        self.LayerNorm2 = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(0.1)

    def forward(self, hidden_states, mask):
        attention_output = self.attention(hidden_states, mask)[0]
        attention_output = self.LayerNorm1(self.dropout(self.output(attention_output)) + hidden_states)
        layer_output = self.dense(F.gelu(self.intermediate(attention_output), approximate="tanh"))
        return self.LayerNorm2(self.dropout(layer_output) + attention_output)


class Bert(nn.Module):
    def __init__(self, vocab=50, dim=24, heads=3, length=16):
        super().__init__()
        self.embeddings = BertEmbeddings(vocab, dim, length)
        self.layer = nn.ModuleList([BertLayer(dim, heads) for _ in range(2)])
        self.pooler = nn.Sequential(nn.Linear(dim, dim), nn.Tanh())
        self.classifier = nn.Linear(dim, 3)

    def forward(self, input_ids, attention_mask=None):
        if attention_mask is None:
            attention_mask = torch.ones(input_ids.shape, device=input_ids.device)
        if attention_mask.dim() == 2:
            extended = attention_mask[:, None, None, :]
        else:
            raise ValueError(f"Wrong shape for attention_mask (shape {attention_mask.shape})")
        extended = (1.0 - extended) * -10000.0
        x = self.embeddings(input_ids)
        for layer_module in self.layer:
            x = layer_module(x, extended)
        return self.classifier(self.pooler(x[:, 0]))


# LLaMA (arXiv:2302.13971): RMSNorm by hand, rotary positions, SwiGLU, fewer heads for keys than for queries


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-6):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def _norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x):
        output = self._norm(x.float()).type_as(x)
        return output * self.weight


class HalfRMSNorm(nn.Module):
    def __init__(self, hidden_size, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


def rotate_half(x):
    x1 = x[..., : x.shape[-1] // 2]
    x2 = x[..., x.shape[-1] // 2 :]
    return torch.cat((-x2, x1), dim=-1)


def rotate_pairs(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def repeat_kv(hidden_states, n_rep):
    """As torch.repeat_interleave(x, dim=1, repeats=n_rep)."""
    batch, num_key_value_heads, slen, head_dim = hidden_states.shape
    if n_rep == 1:
        return hidden_states
    hidden_states = hidden_states[:, :, None, :, :].expand(batch, num_key_value_heads, n_rep, slen, head_dim)
    return hidden_states.reshape(batch, num_key_value_heads * n_rep, slen, head_dim)


class LlamaAttention(nn.Module):
    def __init__(self, dim, heads, kv_heads, length, interleaved):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.interleaved = interleaved
        self.q_proj = nn.Linear(dim, heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(heads * self.head_dim, dim, bias=False)
        inv_freq = 1.0 / (10000.0 ** (torch.arange(0, self.head_dim, 2).float() / self.head_dim))
        freqs = torch.outer(torch.arange(length).float(), inv_freq)
        emb = freqs.repeat_interleave(2, dim=-1) if interleaved else torch.cat((freqs, freqs), dim=-1)
        self.register_buffer("cos_cached", emb.cos(), persistent=False)
        self.register_buffer("sin_cached", emb.sin(), persistent=False)

    def forward(self, x):
        bsz, q_len, _ = x.size()
        q = self.q_proj(x).view(bsz, q_len, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(bsz, q_len, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(bsz, q_len, self.kv_heads, self.head_dim).transpose(1, 2)
        cos, sin = self.cos_cached[:q_len].unsqueeze(0), self.sin_cached[:q_len].unsqueeze(0)
        rotate = rotate_pairs if self.interleaved else rotate_half
        q, k = q * cos + rotate(q) * sin, k * cos + rotate(k) * sin
        if self.interleaved:
            k = torch.repeat_interleave(k, self.heads // self.kv_heads, dim=1)
            v = v.repeat_interleave(self.heads // self.kv_heads, dim=1)
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            k, v = (repeat_kv(t, self.heads // self.kv_heads) for t in (k, v))
            weights = torch.matmul(q, k.transpose(2, 3)) / math.sqrt(self.head_dim)
            mask = torch.full((q_len, q_len), torch.finfo(x.dtype).min, device=x.device)
            weights = weights + torch.triu(mask, diagonal=1)
            weights = nn.functional.softmax(weights, dim=-1, dtype=torch.float32).to(q.dtype)
            out = torch.matmul(weights, v)
        out = out.transpose(1, 2).contiguous().reshape(bsz, q_len, -1)
        return self.o_proj(out)


class LlamaLayer(nn.Module):
    def __init__(self, dim, hidden, *, norm, **attention):
        super().__init__()
        self.self_attn = LlamaAttention(dim, **attention)
        self.gate_proj = nn.Linear(dim, hidden, bias=False)
        self.up_proj = nn.Linear(dim, hidden, bias=False)
        self.down_proj = nn.Linear(hidden, dim, bias=False)
        self.input_layernorm, self.post_attention_layernorm = norm(dim), norm(dim)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        h = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Llama(nn.Module):
    def __init__(self, norm=RMSNorm, interleaved=True, vocab=48, dim=32, length=16):
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab, dim)
        attention = dict(heads=4, kv_heads=2, length=length, interleaved=interleaved)
        self.layers = nn.ModuleList([LlamaLayer(dim, 40, norm=norm, **attention) for _ in range(2)])
        self.norm = norm(dim)
        self.lm_head = nn.Linear(dim, vocab, bias=False)

    def forward(self, tokens):
        h = self.embed_tokens(tokens)
        for layer in self.layers:
            h = layer(h)
        return self.lm_head(self.norm(h)).float()


# GPT-2 in the manner of Hugging Face: linear layers of transposed weights by addmm, a mask by torch.where


class Conv1D(nn.Module):
    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.empty(nx, nf).normal_(std=0.2))
        self.bias = nn.Parameter(torch.zeros(nf))

    def forward(self, x):
        size_out = x.size()[:-1] + (self.nf,)  # noqa: RUF005
        x = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return x.view(size_out)


class GPT2Block(nn.Module):
    def __init__(self, dim=24, heads=3, length=16):
        super().__init__()
        self.wte, self.heads, self.dim = nn.Embedding(40, dim), heads, dim
        self.ln_1 = nn.LayerNorm(dim)
        self.c_attn = Conv1D(3 * dim, dim)
        self.c_proj = Conv1D(dim, dim)
        self.ln_2 = nn.LayerNorm(dim)
        self.c_fc, self.c_out = Conv1D(4 * dim, dim), Conv1D(dim, 4 * dim)
        mask = torch.tril(torch.ones((length, length), dtype=torch.bool)).view(1, 1, length, length)
        self.register_buffer("bias", mask, persistent=False)
        self.ln_f, self.lm_head = nn.LayerNorm(dim), nn.Linear(dim, 40, bias=False)

    def gelu_new(self, x):
        return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))

    def forward(self, ids):
        x = self.wte(ids)
        q, k, v = (
            t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)
            for t in self.c_attn(self.ln_1(x)).split(self.dim, dim=2)
        )
        w = torch.matmul(q, k.transpose(-1, -2))
        w = w / torch.full([], v.size(-1) ** 0.5, dtype=w.dtype, device=w.device)
        query_length, key_length = q.size(-2), k.size(-2)
        causal_mask = self.bias[:, :, key_length - query_length : key_length, :key_length]
        mask_value = torch.full([], torch.finfo(w.dtype).min, dtype=w.dtype, device=w.device)
        w = F.softmax(torch.where(causal_mask, w.to(w.dtype), mask_value), dim=-1).type(v.dtype)
        a = torch.matmul(w, v).permute(0, 2, 1, 3).contiguous()
        x = x + self.c_proj(a.view(a.size()[:-2] + (self.dim,)))  # noqa: RUF005
        x = x + self.c_out(self.gelu_new(self.c_fc(self.ln_2(x))))
        return self.lm_head(self.ln_f(x))


class ALiBi(nn.Module):
    """Attention with a linear bias (arXiv:2108.12409), handed to the fused attention as its mask; squared ReLU."""

    def __init__(self, dim=24, heads=4, length=16):
        super().__init__()
        self.heads = heads
        self.wte = nn.Embedding(40, dim)
        slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
        distance = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        bias = slopes[:, None, None] * distance[None]
        self.register_buffer("alibi", bias.masked_fill(distance > 0, float("-inf")))
        self.q, self.k, self.v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.norm = nn.RMSNorm(dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.head = nn.Linear(dim, 40)

    def forward(self, ids):
        x = self.wte(ids)
        h = self.norm(x)
        q, k, v = (f(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mask = self.alibi[:, : h.size(1), : h.size(1)]
        x = x + F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(-2)
        x = x + self.down(F.relu(self.up(self.norm(x))).square())  # the same norm again
        return self.head(x)


# PyTorch's own layers


class EncoderClassifier(nn.Module):
    """The tutorial's: nn.TransformerEncoder after sinusoidal positions, length first or batch first."""

    def __init__(self, batch_first, norm_first, activation="relu", causal=False, dim=24, length=16):
        super().__init__()
        position = torch.arange(length).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, dim, 2) * (-math.log(10000.0) / dim))
        pe = torch.zeros(1, length, dim)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)
        self.batch_first, self.dim, self.causal = batch_first, dim, causal
        self.encoder = nn.Embedding(40, dim)
        layer = nn.TransformerEncoderLayer(
            dim, 3, 32, 0.1, activation=activation, batch_first=batch_first, norm_first=norm_first
        )
        self.transformer_encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.decoder = nn.Linear(dim, 4)

    def forward(self, src):
        src = self.encoder(src) * math.sqrt(self.dim)
        src = src + self.pe[:, : src.size(1)]
        if not self.batch_first:
            src = src.transpose(0, 1)
        mask = nn.Transformer.generate_square_subsequent_mask(16) if self.causal else None
        output = self.transformer_encoder(src, mask)
        if not self.batch_first:
            output = output.transpose(0, 1)
        return self.decoder(output.mean(1))


class SelfAttentionUser(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(dim, 5)

    def forward(self, x):
        h = self.norm(x)
        attn_out, _ = self.attn(h, h, h, need_weights=False)
        x = x + attn_out
        return self.head(x[:, -1])


class Perceiver(nn.Module):
    """Learned queries that ask the tokens (arXiv:2103.03206); keys of another width; weights returned, thrown away."""

    def __init__(self, dim=16, features=10):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(4, dim))
        self.cross = nn.MultiheadAttention(dim, 4, kdim=features, vdim=features, batch_first=True)
        self.mix = nn.MultiheadAttention(dim, 2, bias=False, batch_first=True)
        self.head = nn.Linear(4 * dim, 3)

    def forward(self, x):
        latents = self.latents.unsqueeze(0).expand(x.size(0), -1, -1)
        latents = self.cross(latents, x, x)[0] + latents
        latents = latents + self.mix(latents, latents, latents, need_weights=False)[0]
        return self.head(latents.flatten(1))


# Convolutions over words (arXiv:1408.5882), 2-D over a map of one channel and 1-D over embeddings; a bag of words


class TextCNN(nn.Module):
    def __init__(self, vocab=60, dim=12, kernel_num=6, kernel_sizes=(2, 3, 4)):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.convs = nn.ModuleList([nn.Conv2d(1, kernel_num, (K, dim)) for K in kernel_sizes])
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(len(kernel_sizes) * kernel_num, 4)

    def forward(self, x):
        x = self.embed(x)  # (N, W, D)
        x = x.unsqueeze(1)  # (N, Ci, W, D)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        x = [F.max_pool1d(i, i.size(2)).squeeze(2) for i in x]
        x = torch.cat(x, 1)
        return self.fc1(self.dropout(x))


class TextConv1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(60, 12, padding_idx=0)
        self.convs = nn.ModuleDict({f"k{k}": nn.Conv1d(12, 6, k) for k in (3, 5)})
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        emb = self.emb(x).permute(0, 2, 1)
        pooled = [conv(emb).relu().max(dim=-1)[0] for conv in self.convs.values()]
        return torch.sigmoid(self.fc(torch.cat(pooled, dim=-1)))


class BagOfWords(nn.Module):
    """Deep averaging: the mean of embeddings, then two layers."""

    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(60, 12)
        self.fc = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, text):
        return self.fc(torch.mean(self.word(text), dim=1))


language = partial(Fixture, family="language")
NETWORKS = {
    "bert": language(Bert, tokens(12, 50, batch=2)),
    "llama": language(Llama, tokens(16, 48)),
    "llama_rotate_half": language(lambda: Llama(HalfRMSNorm, interleaved=False), tokens(12, 48, batch=2)),
    "gpt2_addmm": language(GPT2Block, tokens(12, 40, batch=2)),
    "alibi": language(ALiBi, tokens(12, 40)),
    "transformer_encoder": language(lambda: EncoderClassifier(True, False), tokens(12, 40, batch=2)),
    "transformer_encoder_pre_norm": language(lambda: EncoderClassifier(True, True, "gelu"), tokens(12, 40)),
    "transformer_encoder_length_first": language(lambda: EncoderClassifier(False, False), tokens(12, 40, batch=2)),
    "transformer_encoder_causal": language(lambda: EncoderClassifier(True, True, causal=True), tokens(16, 40)),
    "multihead_attention": language(SelfAttentionUser, noise(6, 16, batch=2)),
    "perceiver": language(Perceiver, noise(6, 10, batch=2)),
    "text_cnn": language(TextCNN, tokens(14, 60, batch=2)),
    "text_conv1d": language(TextConv1d, tokens(14, 60)),
    "bag_of_words": language(BagOfWords, tokens(9, 60, batch=2)),
}
