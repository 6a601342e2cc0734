"""Networks of published codebases in pure torch, with the names of their official state dicts.

One file an architecture, what several share in files of its own. They know nothing of files, noise schedules or image
ranges: `restore.priors.families` puts these around them. Every network can be built on the meta device; what its
official state dict does not hold is computed in `forward`, in the precision of its input.
"""
