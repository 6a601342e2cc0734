"""Detectors that see magnitudes and no phases: phase retrieval and Fourier ptychography."""
