"""Steps of which cells of recurrent networks consist, in the order in which PyTorch takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def lstm_cell(
    x: Tensor, state: tuple[Tensor, Tensor], w_x: Tensor, w_h: Tensor, b_x: Any = None, b_h: Any = None
) -> tuple[Tensor, Tensor]:
    """As `torch.lstm_cell`."""
    h, c = state
    enter, forget, cell, leave = (F.linear(h, w_h, b_h) + F.linear(x, w_x, b_x)).chunk(4, 1)
    c = torch.sigmoid(forget) * c + torch.sigmoid(enter) * torch.tanh(cell)
    return torch.sigmoid(leave) * torch.tanh(c), c


def rnn_tanh_cell(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Any = None, b_h: Any = None) -> Tensor:
    """As `torch.rnn_tanh_cell`."""
    return torch.tanh(F.linear(h, w_h, b_h) + F.linear(x, w_x, b_x))


def rnn_relu_cell(x: Tensor, h: Tensor, w_x: Tensor, w_h: Tensor, b_x: Any = None, b_h: Any = None) -> Tensor:
    """As `torch.rnn_relu_cell`."""
    return F.relu(F.linear(h, w_h, b_h) + F.linear(x, w_x, b_x))


CELLS: dict[str, Callable[..., Any]] = {
    "lstm_cell": lstm_cell,
    "rnn_tanh_cell": rnn_tanh_cell,
    "rnn_relu_cell": rnn_relu_cell,
}
"""By the names of the functions whose place they take."""
