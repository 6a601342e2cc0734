"""Photographs: blur, downsampling, missing pixels, clipping, and blur kernels."""
