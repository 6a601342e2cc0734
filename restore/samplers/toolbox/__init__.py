"""What samplers are made of, each once: levels, first states, new noise, data steps, moments, optimisers, solvers."""
