"""Controllers of published systems, as settings of the same parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Preset:
    """Settings of a published controller.

    Attributes:
        controller: Name of the controller that they are for.
        arguments: Its arguments.
        source: What they are from.
    """

    controller: str
    arguments: dict[str, Any]
    source: str


def _lstm(units: int, *, layers: int = 1, bidirectional: bool = False, **more: Any) -> dict[str, Any]:
    """Arguments of a policy with an LSTM and logits that are linear in what it says."""
    return {
        "encoder": "recurrent",
        "cell": "lstm",
        "hidden_size": units,
        "embedding_size": units,
        "layers": layers,
        "bidirectional": bidirectional,
        "head_size": 0,
        **more,
    }


PRESETS: Final[dict[str, Preset]] = {
    "zoph": Preset(
        "reinforce",
        {
            "learning_rate": 6e-4,
            "ent_coef": 0.0,
            "advantage": "difference",
            "baseline_decay": 0.95,
            "policy_kwargs": _lstm(35, layers=2, init_range=0.08),
        },
        "Zoph & Le, Neural Architecture Search with Reinforcement Learning, 2017, arXiv:1611.01578; "
        "the decay of the baseline is not stated there; batches of 8 networks",
    ),
    "nasnet": Preset(
        "ppo",
        {"learning_rate": 3.5e-4, "ent_coef": 1e-5, "policy_kwargs": _lstm(100, init_range=0.1)},
        "Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, 2018, arXiv:1707.07012; "
        "with a critic in place of the moving average",
    ),
    "enas": Preset(
        "reinforce",
        {
            "learning_rate": 1e-3,
            "ent_coef": 1e-4,
            "advantage": "difference",
            "baseline_decay": 0.99,
            "policy_kwargs": _lstm(64, init_range=0.1, tanh_constant=1.5),
        },
        "Pham et al., Efficient Neural Architecture Search via Parameter Sharing, 2018, arXiv:1802.03268; the macro "
        "space, without the penalty on skips",
    ),
    "graphnas": Preset(
        "reinforce",
        {
            "learning_rate": 3.5e-4,
            "ent_coef": 1e-4,
            "advantage": "difference",
            "baseline_decay": 0.95,
            "policy_kwargs": _lstm(100, init_range=0.1, tanh_constant=2.5, temperature=5.0),
        },
        "Gao et al., Graph Neural Architecture Search, IJCAI 2020, arXiv:1904.09981",
    ),
    "eas": Preset(
        "reinforce",
        {
            "learning_rate": 2e-3,
            "ent_coef": 1e-5,
            "advantage": "difference",
            "baseline_decay": 0.05,
            "policy_kwargs": _lstm(50, bidirectional=True) | {"embedding_size": 16},
        },
        "Cai et al., Efficient Architecture Search by Network Transformation, 2018, arXiv:1707.04873; as in its code, "
        "the newest batch makes 95 % of the baseline, but only of the batches after it; batches of 10 networks",
    ),
    "n2n": Preset(
        "reinforce",
        {
            "learning_rate": 3e-3,
            "ent_coef": 0.0,
            "advantage": "difference",
            "policy_kwargs": _lstm(30, layers=2, bidirectional=True),
        },
        "Ashok et al., N2N Learning: Network to Network Compression via Policy Gradient Reinforcement Learning, 2018, "
        "arXiv:1709.06030; the policy that removes layers, with a moving average for the mean of all past returns; "
        "batches of 5 networks",
    ),
    "rena": Preset(
        "reinforce",
        {"advantage": "difference", "policy_kwargs": _lstm(50, bidirectional=True)},
        "Zhou et al., Resource-Efficient Neural Architect, 2018, arXiv:1806.07912; a recurrent policy over layer "
        "embeddings trained by the policy gradient; sizes and rates are ours",
    ),
}
"""Published controllers by name."""
