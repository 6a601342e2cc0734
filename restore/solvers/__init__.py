"""Linear and convex solvers: conjugate gradients, data-consistency steps, TV and wavelets.

Pure torch. Everything here knows the operator contract (`restore.operators.base`) and plain
callables, nothing of priors, samplers or files. Samplers and pipelines import the names below.
"""

from __future__ import annotations

from restore.linalg.conjugate_gradients import Result, Solution
from restore.solvers.admm import AdmmTV, admm_tv_steps
from restore.solvers.proximal import DataTerm, data_step, krylov_step
from restore.solvers.proximal_gradient import fista_steps
from restore.solvers.sparse import wavelet_l1_steps
from restore.solvers.wavelet import Wavelet

__all__ = [
    "AdmmTV",
    "DataTerm",
    "Result",
    "Solution",
    "Wavelet",
    "admm_tv_steps",
    "data_step",
    "fista_steps",
    "krylov_step",
    "wavelet_l1_steps",
]
