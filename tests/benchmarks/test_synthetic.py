from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from tests.benchmarks.test_zero_cost import load


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    return load("synthetic")


def test_the_table_by_its_definition(synthetic: ModuleType) -> None:
    rng = np.random.RandomState(3)
    alone, pairs = rng.randn(6, 5), 0.5 * rng.randn(6, 6, 5, 5)
    found = synthetic.scores(3)

    def raw(a: tuple[int, ...]) -> float:
        both = sum(pairs[i, j, a[i], a[j]] for i in range(6) for j in range(i))
        return float(sum(alone[i, a[i]] for i in range(6)) + both)

    assert found.shape == (5,) * 6 and found.min() == 0 and found.max() == 1
    low, high = (np.unravel_index(k, found.shape) for k in (found.argmin(), found.argmax()))
    some = (4, 0, 2, 1, 3, 2)
    assert found[some] == pytest.approx((raw(some) - raw(low)) / (raw(high) - raw(low)))


def test_figures_of_a_search(synthetic: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "SAMPLES", 60)
    monkeypatch.setattr(synthetic, "EARLY", 20)
    found = synthetic.run(("random", 1, {}, 10))
    assert found == synthetic.run(("random", 1, {}, 10)) | {"ms": found["ms"]}
    assert 0.6 < found["best"] <= 1 and 0.3 < found["last"] < 0.7 and found["distinct"] >= 58 and found["ms"] > 0
