"""The blur of volumes whose surroundings are unknown."""

from __future__ import annotations

import numpy as np
import scipy.signal
import torch

from restore.operators.volume.volume_blur import VolumeBlur


def test_it_is_the_convolution_where_no_border_touches() -> None:
    rng = np.random.default_rng(0)
    kernel, x = rng.random((3, 1, 5)), rng.standard_normal((2, 6, 7, 9))
    operator = VolumeBlur(torch.from_numpy(kernel), x.shape[1:])
    expected = np.stack([scipy.signal.convolve(one, kernel, "valid") for one in x])
    np.testing.assert_allclose(operator(torch.from_numpy(x)), expected, atol=1e-13)


def test_the_picture_has_the_measurement_in_its_middle_and_the_inverse_explains_it() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64)
    operator = VolumeBlur(kernel / kernel.sum(), (9, 10, 11))
    y = operator(torch.rand(9, 10, 11, generator=generator, dtype=torch.float64))
    assert torch.equal(operator.inside(operator.picture(y)), y)
    left = torch.linalg.vector_norm(operator(operator.pinv(y)) - y)
    assert left < 0.1 * torch.linalg.vector_norm(y)  # 0.02 seen, of eight damped steps
    narrow = VolumeBlur(kernel, (4, 4, 4))  # of which two voxels are measured, mirrored by one
    assert narrow.picture(torch.zeros(2, 2, 2, dtype=torch.float64)).shape == (4, 4, 4)
    wide = VolumeBlur(torch.ones(3, 3, 3), (3, 3, 3))  # one voxel, which cannot be mirrored
    assert torch.equal(wide.picture(torch.full((1, 1, 1), 2.0)), torch.full((3, 3, 3), 2.0))
