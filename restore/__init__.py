"""restore: reconstruct and restore images and medical volumes with diffusion priors."""

__version__ = "0.1.0"
