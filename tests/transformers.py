"""Small transformers for tests: image classifiers and causal language models in all the usual forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from rlnas.graph import Graph, Node
from tests.graphs import Builder

VOCABULARY = 11


@dataclass(frozen=True)
class Form:
    """How a transformer is built.

    Attributes:
        width: Features of a token.
        key: Width of a head's queries and keys.
        value: Width of a head's values.
        fused: One linear layer for queries, keys and values, which are sliced off.
        gated: SwiGLU instead of a single hidden layer.
        norm_bias: False for a norm without shift.
        order: Where norms are: before each branch, after each add, or one for both branches of a layer, side by side.
        scaled: A factor for each feature at the end of a branch.
        gate_output: The attention's output is multiplied by a function of its input.
        places_in_keys: A learned tensor is added to the keys.
    """

    width: int = 8
    heads: int = 2
    kv_heads: int = 2
    key: int = 3
    value: int = 4
    hidden: int = 6
    layers: int = 2
    norm: str = "layer_norm"
    norm_bias: bool = True
    eps: float = 1e-2
    bias: bool = True
    fused: bool = True
    gated: bool = False
    activation: str = "gelu"
    kind: str = "sdpa"
    dropout: float = 0.0
    order: str = "pre"
    scaled: bool = False
    gate_output: bool = False
    places_in_keys: bool = False


class Transformer(Builder):
    """Adds the parts of a transformer."""

    def __init__(self, form: Form, *shape: int, dtype: str = "float32") -> None:
        super().__init__(*shape)
        self.nodes[0] = Node.make("image", "input", shape=shape, dtype=dtype)
        self.form = form

    def normed(self, id: str | None = None) -> str:
        bias = {"bias": self.form.norm_bias} if self.form.norm == "layer_norm" else {}
        return self.add(self.form.norm, id=id, eps=self.form.eps, **bias)

    def linear(self, out: int, *inputs: str, id: str | None = None) -> str:
        return self.add("linear", *inputs, id=id, out_channels=out, bias=self.form.bias)

    def projections(self, k: int) -> list[str]:
        """Queries, keys and values of what was added last."""
        form, source = self.form, self.last
        sizes = [form.heads * form.key, form.kv_heads * form.key, form.kv_heads * form.value]
        if not form.fused:
            return [self.linear(size, source, id=f"{n}{k}") for n, size in zip("qkv", sizes, strict=True)]
        fused, start, found = self.linear(sum(sizes), id=f"qkv{k}"), 0, []
        for size in sizes:
            found.append(self.add("slice", fused, axis=1, start=start, stop=start + size))
            start += size
        return found

    def attention(self, k: int, *, causal: bool) -> str:
        """Attention to what was added last, and its output projection."""
        form, source = self.form, self.last
        attrs = {"heads": form.heads, "kv_heads": form.kv_heads, "scale": form.key**-0.5}
        query, key, value = self.projections(k)
        if form.places_in_keys:
            shape = self.shapes[key]
            key = self.add("add", key, self.add("parameter", id=f"key_places{k}", shape=shape, axis=-1))
        self.add("attention", query, key, value, id=f"attend{k}", causal=causal, kind=form.kind, **attrs)
        if form.gate_output:
            attended, gate = self.last, self.add("sigmoid", self.linear(self.shape[-1], source, id=f"output_gate{k}"))
            self.add("mul", attended, gate)
        return self.linear(form.width, id=f"o{k}")

    def feed_forward(self, k: int) -> str:
        """One hidden layer that reads what was added last."""
        form, source = self.form, self.last
        self.add(form.activation, self.linear(form.hidden, id=f"up{k}"), id=f"act{k}")
        if form.gated:
            self.add("mul", self.last, self.linear(form.hidden, source, id=f"gate{k}"))
        return self.linear(form.width, id=f"down{k}")

    def join(self, source: str, *branches: str, id: str) -> None:
        """Add branches to the residual stream."""
        form, ends = self.form, []
        for branch in branches:
            if form.scaled:
                branch = self.add("mul", branch, self.add("parameter", shape=(form.width,), axis=-1))
            ends.append(self.add("dropout", branch, p=form.dropout) if form.dropout else branch)
        self.add("add", source, *ends, id=id)

    def layers(self, *, causal: bool) -> None:
        pre = self.form.order == "pre"
        for k in range(1, self.form.layers + 1):
            source = self.last
            if self.form.order == "parallel":
                normed = self.normed(f"norm{k}")
                attended, self.last = self.attention(k, causal=causal), normed
                self.join(source, attended, self.feed_forward(k), id=f"fed{k}")
                continue
            if pre:
                self.normed(f"norm{k}")
            self.join(source, self.attention(k, causal=causal), id=f"attended{k}")
            source = self.last if pre else self.normed(f"norm{k}")
            if pre:
                self.normed(f"mlp_norm{k}")
            self.join(source, self.feed_forward(k), id=f"fed{k}")
            if not pre:
                self.normed(f"mlp_norm{k}")
        self.normed("final")


def image_classifier(form: Form | None = None, *, token: bool = True) -> Graph:
    """A vision transformer on 8 x 8 images; it reads a class token, or the mean of all tokens."""
    form = form or Form()
    b = Transformer(form, 1, 8, 8)
    b.add("conv2d", id="patches", out_channels=form.width, kernel_size=(4, 4), stride=(4, 4), bias=form.bias)
    b.add("flatten", start=1)
    tokens, n = b.add("permute", dims=(1, 0)), 4
    if token:
        tokens, n = b.add("concat", b.add("parameter", id="token", shape=(1, form.width), axis=-1), tokens, axis=0), 5
    b.add("add", tokens, b.add("parameter", id="places", shape=(n, form.width), axis=-1))
    b.layers(causal=False)
    if token:
        b.add("slice", axis=0, start=0, stop=1)
        b.add("flatten")
    else:
        b.add("reduce", kind="mean", axes=(0,))
    b.linear(3, id="head")
    return b.graph()


def language_model(form: Form | None = None, *, tied: bool = False) -> Graph:
    """A causal decoder of 5 tokens that gives logits for each."""
    form = form or Form()
    b = Transformer(form, 5, dtype="int64")
    words = b.add("embedding", id="words", num_embeddings=VOCABULARY, out_channels=form.width)
    b.add("add", words, b.add("parameter", id="places", shape=(5, form.width), axis=-1), id="embedded")
    b.layers(causal=True)
    extra: dict[str, Any] = {"shares": "words"} if tied else {}
    b.add("linear", id="head", out_channels=VOCABULARY, bias=False, **extra)
    return b.graph()


@st.composite
def forms(draw: st.DrawFn, *, dropout: bool = False) -> Form:
    kv_heads = draw(st.integers(1, 2))
    return Form(
        width=draw(st.integers(4, 9)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        key=draw(st.integers(1, 4)),
        value=draw(st.integers(1, 4)),
        hidden=draw(st.integers(1, 6)),
        layers=draw(st.integers(1, 2)),
        norm=draw(st.sampled_from(["layer_norm", "rms_norm"])),
        norm_bias=draw(st.booleans()),
        # Not PyTorch's default: where features happen to be nearly constant, it would magnify the rounding of sums.
        eps=draw(st.sampled_from([1e-2, 1e-1])),
        bias=draw(st.booleans()),
        fused=draw(st.booleans()),
        gated=draw(st.booleans()),
        activation=draw(st.sampled_from(["gelu", "silu", "relu"])),
        kind=draw(st.sampled_from(["sdpa", "scores", "query"])),
        dropout=0.1 if dropout and draw(st.booleans()) else 0.0,
        order=draw(st.sampled_from(["pre", "pre", "post", "parallel"])),
        scaled=draw(st.booleans()) and draw(st.booleans()),
        gate_output=draw(st.booleans()) and draw(st.booleans()),
        places_in_keys=draw(st.booleans()) and draw(st.booleans()),
    )


@st.composite
def transformers(draw: st.DrawFn, *, dropout: bool = False) -> Graph:
    """A small vision transformer or language model."""
    form = draw(forms(dropout=dropout))
    build = draw(st.sampled_from([image_classifier, language_model]))
    if build is image_classifier:
        return image_classifier(form, token=draw(st.booleans()))
    return language_model(form, tied=draw(st.booleans()))
