"""Restoring volumes: one file a task behind one contract, the work in blocks, and the job from file to file."""
