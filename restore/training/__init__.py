"""Training of priors: images, crops, losses, one loop, its state on disk. Above the priors, below the verbs."""
