"""Traces at irregular places on a padded grid, and back."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.operators.verify import check
from restore.operators.volume.traces import TraceGrid

SINGLE = 1e-5  # three operations in single precision on numbers near ten; 5e-7 seen

PLACES = torch.tensor([[100.0, 40.0], [126.0, 41.0], [99.0, 61.0], [101.0, 59.0], [200.0, 80.0]])
CELLS = [(0, 0), (1, 0), (0, 1), (0, 1), (4, 2)]  # of 25 x 20; two traces share one


def test_traces_lie_in_their_cells_and_come_back(generator: torch.Generator) -> None:
    traces = 10 * torch.randn(5, 6, generator=generator)
    grid = TraceGrid.of(PLACES, traces, cell=(25.0, 20.0), multiple=4)
    assert grid.size == (5, 3, 6)
    assert tuple(grid.measured.shape) == (8, 4, 8)
    assert float(grid.measured.min()) >= 0
    assert float(grid.measured.max()) <= 1
    back = grid.amplitudes(grid.measured)
    for cell in set(CELLS):
        wanted = torch.stack([t for t, at in zip(traces, CELLS, strict=True) if at == cell])
        torch.testing.assert_close(back[cell], wanted.mean(0), rtol=0, atol=SINGLE)
        assert int(grid.folds[cell]) == len(wanted)
    assert int(grid.folds.sum()) == 5
    operator = grid.operator
    assert float(operator.mask.sum()) == 4 * 6  # four cells, and no sample of the padding
    assert torch.equal(operator.project(grid.measured), grid.measured)
    assert check(operator, laws=["shapes", "adjoint", "looks"]).ok
    assert grid.in_unit(2 * grid.peak) == 1


@pytest.mark.parametrize(
    ("positions", "traces", "told", "kind", "what"),
    [
        (PLACES, torch.ones(4, 6), {}, ShapeError, "positions"),
        (PLACES, torch.full((5, 6), torch.nan), {}, ConfigError, "finite"),
        (PLACES, torch.zeros(5, 6), {}, ConfigError, "zero throughout"),
        (PLACES, torch.ones(5, 6), {"cell": 0.0}, ConfigError, "positive"),
        (PLACES, torch.ones(5, 6), {"cell": 0.01}, ConfigError, "unit of"),
    ],
)
def test_refusals(positions, traces, told, kind, what) -> None:
    with pytest.raises(kind, match=what):
        TraceGrid.of(positions, traces, **told)
