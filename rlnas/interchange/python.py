"""Write a network as a folder that needs nothing of ours: ``model.py`` and ``weights.safetensors``."""

from __future__ import annotations

from pathlib import Path

from rlnas.graph import to_source
from rlnas.interchange.names import tidy
from rlnas.network import GRAPH_FILE, WEIGHTS_FILE, Network

SOURCE_FILE = "model.py"

HEADER = '''"""A network designed by rlnas; it needs torch and safetensors only.

Input: {inputs}.
Output: {outputs}.

    from model import load
    network = load("{weights}")
"""

'''

LOADER = '''

def load(path: str = "{weights}") -> Network:
    """The network with its weights, in eval mode."""
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()
'''


def write_model(network: Network, folder: str | Path, *, inputs: str, outputs: str) -> Network:
    """Write ``graph.json``, ``weights.safetensors`` and ``model.py`` of the tidied network, which is returned.

    Each file is replaced as a whole, so that a reader never meets half of one.

    Args:
        inputs: What the network takes, in words; goes into the source.
        outputs: What it gives.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    neat = tidy(network)
    partial = path / ".partial"
    neat.save(partial)
    source = to_source(neat.graph).replace(
        "from torch import nn\n", "from safetensors.torch import load_file\nfrom torch import nn\n"
    )
    header = HEADER.format(inputs=inputs, outputs=outputs, weights=WEIGHTS_FILE)
    (partial / SOURCE_FILE).write_text(header + source + LOADER.format(weights=WEIGHTS_FILE))
    for name in (GRAPH_FILE, WEIGHTS_FILE, SOURCE_FILE):
        (partial / name).replace(path / name)
    partial.rmdir()
    return neat
