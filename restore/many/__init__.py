"""Lists of inputs for any verb: what is in them, how results are called, how they are run, in parts and on clusters."""
