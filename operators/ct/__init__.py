"""Computed tomography: projectors, their geometry, filtered backprojection, counts."""
