"""Commands; the only place that wires everything together."""
