"""Long statements on several lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rlnas.graph.wrap import statement

NAMES = [f"value_number_{k}" for k in range(12)]


@pytest.mark.parametrize(
    ("target", "expression", "lines"),
    [
        ("x = ", "F.relu(y)", 1),
        ("x = ", "y ** 2", 1),
        ("x = ", f"torch.cat([{', '.join(NAMES)}], dim=1)", 17),
        ("x = ", f"attention({', '.join(NAMES[:6])}, heads=3)", 3),
        ("return ", f"attention({', '.join(NAMES[:6])}, heads=3)", 3),
        ("z = ", f"attention({', '.join(NAMES[:6])}, heads=3).unflatten(0, (-1, 4))", 3),
        ("z = ", f"torch.einsum('bgci, bgcj, (', {', '.join(NAMES[:6])}).unflatten(0, (-1, 4))", 3),
        ("self.a_long_name = ", f"nn.Conv2d({', '.join(NAMES)})", 14),
    ],
)
def test_lines_are_what_ruff_makes_of_them(target: str, expression: str, lines: int, tmp_path: Path) -> None:
    found = statement(target, expression, indent=4)
    assert len(found) == lines and max(map(len, found)) <= 120
    path = tmp_path / "text.py"
    path.write_text("\n".join(["def forward(self):", *found]) + "\n")
    ruff = [sys.executable, "-m", "ruff", "format", "--diff", "--isolated", "--line-length=120", "--no-cache"]
    done = subprocess.run([*ruff, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
