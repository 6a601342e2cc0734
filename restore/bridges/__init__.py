"""Bridges from a clean to a degraded image: schedules, forward processes, network heads and training losses."""
