"""sigpy's JSENSE maps, and SENSE with them (needs the extra: pip install 'restore[sigpy]')."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from restore.config import setting
from restore.errors import ConfigError
from restore.extras import load_extra
from restore.operators.base import LinearOperator
from restore.operators.interop.arrays import array_of
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.sigpy_items import image_of, slices_of


@dataclasses.dataclass(frozen=True)
class SigpyJsense(Sampler):
    """Coil maps by `sigpy.mri.app.JsenseRecon`, then SENSE with them by `SenseRecon`, with lamda ||x||^2.

    Ying and Sheng, "Joint image reconstruction and sensitivity estimation in SENSE", MRM 2007; Uecker and others,
    NLINV, MRM 2008. Settings of SENSE have sigpy's names, those of the maps begin with `maps_`. The maps of the
    problem's operator serve one thing only: the image's phase is turned into theirs, so that it shows as those of
    other samplers do; its magnitude is sigpy's. With `maps_lamda=0`, sigpy's default, JSENSE diverges where its inner
    iteration has converged (simulated scans of little noise).
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ("mri",)
    components: ClassVar[bool] = False
    on: ClassVar[str] = "on a Cartesian grid"
    reference: ClassVar[str] = "Ying, Sheng: JSENSE, MRM 2007; sigpy"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"lamda": (1e-3, 1e-2, 3e-2, 1e-1)}

    lamda: float = setting(1e-2, "weight of ||x||^2 of an image of 0..1", at_least=0)
    max_iter: int = setting(30, "CG iterations of SENSE", at_least=1)
    mps_ker_width: int = setting(16, "width of the maps in k-space", at_least=1)
    ksp_calib_width: int = setting(24, "width of k-space that maps are made of", at_least=1)
    maps_lamda: float = setting(1e-2, "weight of maps and image, of k-space of norm 1", at_least=0)
    maps_iter: int = setting(10, "alternations between maps and image", at_least=1)
    maps_inner_iter: int = setting(10, "CG iterations within each", at_least=1)

    def _check_together(self) -> None:
        """Refuse a missing package before any work."""
        load_extra("sigpy.mri", "sigpy", "the sampler sigpy-jsense")

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per CG iteration of SENSE, of all slices together; the maps come before the first."""
        items = slices_of(problem)
        made = [self._sense(operator, y) for operator, y in items]
        for i in range(self.max_iter):
            for app, _ in made:
                if not app.alg.done():
                    app.alg.update()
            images = [app.x * turn for app, turn in made]
            yield Step(i, self.max_iter, 0.0, image_of(images, problem), 0)

    def _sense(
        self, operator: LinearOperator, y: NDArray[np.complexfloating]
    ) -> tuple[Any, NDArray[np.complexfloating]]:
        """SENSE of one slice with its JSENSE maps, and the phase that turns its image into the operator's frame."""
        if not isinstance(operator, MultiCoilMRI):
            raise ConfigError(
                f"sigpy-jsense makes coil maps of Cartesian k-space (MultiCoilMRI), not of {operator}; "
                "use sigpy-wavelet"
            )
        mri = load_extra("sigpy.mri", "sigpy", "the sampler sigpy-jsense")
        mask = operator.mask.to(operator.maps.real.dtype).expand(operator.in_shape)
        weights = np.ascontiguousarray(array_of(mask))
        maps = mri.app.JsenseRecon(
            y, self.mps_ker_width, self.ksp_calib_width, self.maps_lamda, weights=weights,
            max_iter=self.maps_iter, max_inner_iter=self.maps_inner_iter, show_pbar=False,
        ).run()  # fmt: skip
        app = mri.app.SenseRecon(
            y, maps, self.lamda, weights=weights, max_iter=self.max_iter, show_pbar=False
        )
        seen = (array_of(operator.maps).conj() * maps).sum(0)
        return app, np.exp(1j * np.angle(seen)).astype(y.dtype)
