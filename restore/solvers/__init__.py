"""Linear and convex solvers: conjugate gradients, data-consistency steps, TV and wavelet reconstructions.

Pure torch. Everything here knows the operator contract (`restore.operators.base`) and plain callables, nothing of
priors, samplers or files. Samplers and pipelines import the names below; heavy work happens only when called.
"""

from __future__ import annotations

#from restore.solvers.admm import AdmmTV, admm_tv, admm_tv_steps
#from restore.solvers.cg import Result, Solution, cg
#from restore.solvers.fista import fista, fista_steps
#from restore.solvers.proximal import DataTerm, data_step, krylov_step
#from restore.solvers.sparse import wavelet_l1, wavelet_l1_steps
#from restore.solvers.wavelet import Wavelet

