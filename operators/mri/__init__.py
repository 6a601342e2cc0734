"""Magnetic resonance imaging: encoding operators, their Fourier transform, coil sensitivities."""
