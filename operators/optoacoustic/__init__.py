"""Optoacoustic (photoacoustic) tomography: means of the initial pressure over circles or spheres around detectors."""
