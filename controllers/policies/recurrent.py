"""Recurrent encoder: an RNN over the slots in their order."""

from __future__ import annotations

from typing import Final

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from rlnas.controllers.policies.encoder import NodeEncoder, check_sizes
from rlnas.errors import ConfigError, unknown_name

CELLS: Final[dict[str, type[nn.GRU] | type[nn.LSTM]]] = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(NodeEncoder):
    """An RNN over the slots.

    In both directions it is the encoder of EAS. In one direction, over the slots of decisions that show the choices
    made so far, it is autoregressive: what it says of a decision depends on the choices before it.

    Args:
        hidden_size: Units of the RNN in one direction.
        layers: Layers of the RNN.
        cell: ``gru`` or ``lstm``.
        bidirectional: Also read the slots from the last to the first.

    Raises:
        ConfigError: If the cell is unknown or a size is not positive.

    References:
        Zoph & Le, Neural Architecture Search with Reinforcement Learning, ICLR 2017, arXiv:1611.01578.
        Cai et al., Efficient Architecture Search by Network Transformation, AAAI 2018, arXiv:1707.04873.
    """

    def __init__(
        self,
        *,
        n_features: int,
        n_context: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        cell: str = "lstm",
        bidirectional: bool = True,
    ) -> None:
        if cell not in CELLS:
            raise ConfigError(unknown_name("cell", cell, CELLS))
        check_sizes(hidden_size=hidden_size, layers=layers)
        read_size = hidden_size * (2 if bidirectional else 1)
        super().__init__(n_features=n_features, n_context=n_context, embedding_size=embedding_size, read_size=read_size)
        self.rnn = CELLS[cell](embedding_size, hidden_size, layers, batch_first=True, bidirectional=bidirectional)

    def read(
        self, embedded: Float[Tensor, "B U E"], present: Bool[Tensor, "B U"], nodes: Float[Tensor, "B S F"]
    ) -> Float[Tensor, "B U R"]:
        """Outputs of the last layer, those of both directions side by side."""
        if present.all():  # nothing to pad, and packing is what costs time
            read: Tensor = self.rnn(embedded)[0]
            return read
        lengths = present.sum(dim=1).clamp(min=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        read, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=embedded.shape[1])
        return read
