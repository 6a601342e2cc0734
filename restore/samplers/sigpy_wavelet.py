"""sigpy's l1-wavelet reconstruction of MRI (needs the extra: pip install 'restore[sigpy]')."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from restore.config import did_you_mean, setting
from restore.errors import ConfigError
from restore.extras import load_extra
from restore.operators.interop.sigpy import to_sigpy
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.sigpy_items import Item, image_of, slices_of


@dataclasses.dataclass(frozen=True)
class SigpyWavelet(Sampler):
    """min 1/2 ||A x - y||^2 + lamda ||W x||_1 by FISTA, as `sigpy.mri.app.L1WaveletRecon` states and solves it.

    Lustig, Donoho, Pauly, "Sparse MRI", MRM 2007. Settings have sigpy's names. lamda goes with images of about 0..1,
    to which the measurement is scaled. sigpy's solver, wavelet and threshold run on our operator, slice by slice, so
    that any MRI operator is served, non-Cartesian ones of sigpy too. Differs from the application: the step is
    1 / ||A||^2 by our own Lanczos iteration, since sigpy's power iteration draws its start from numpy's global
    generator. `wavelet` is this package's own: random shifts, details only, weights relative to the data.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("mri",)
    reference: ClassVar[str] = "Lustig, Donoho, Pauly: Sparse MRI, MRM 2007; sigpy"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"lamda": (3e-4, 1e-3, 3e-3, 1e-2)}

    lamda: float = setting(
        1e-3, "weight of the wavelet coefficients of an image of 0..1", at_least=0
    )
    max_iter: int = setting(100, "FISTA iterations", at_least=1)
    wave_name: str = setting("db4", "wavelet by its name in PyWavelets")

    def _check_together(self) -> None:
        """Refuse a missing package and an unknown wavelet before any work."""
        load_extra("sigpy.mri", "sigpy", "the sampler sigpy-wavelet")
        import pywt

        known = pywt.wavelist(kind="discrete")
        if self.wave_name not in known:
            raise ConfigError(
                f"{type(self).__name__}: wave_name must be one of PyWavelets' discrete wavelets, got "
                f"'{self.wave_name}'{did_you_mean(self.wave_name, known)}"
            )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per FISTA iteration, of all slices together."""
        apps = [self._app(item) for item in slices_of(problem)]
        for i in range(self.max_iter):
            for app in apps:
                if not app.alg.done():
                    app.alg.update()
            yield Step(i, self.max_iter, 0.0, image_of([app.x for app in apps], problem), 0)

    def _app(self, item: Item) -> Any:
        sigpy = load_extra("sigpy", "sigpy", "the sampler sigpy-wavelet")
        operator, y = item
        axes = tuple(range(-operator.item_ndim, 0))
        transform = sigpy.linop.Wavelet(operator.in_shape, axes=axes, wave_name=self.wave_name)
        penalty = sigpy.prox.L1Reg(transform.oshape, self.lamda)
        return sigpy.app.LinearLeastSquares(
            to_sigpy(operator), y, proxg=sigpy.prox.UnitaryTransform(penalty, transform),
            max_iter=self.max_iter, alpha=1 / operator.norm() ** 2, show_pbar=False,
        )  # fmt: skip
