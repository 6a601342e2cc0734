"""Linear algebra on functions and tensors alone: conjugate gradients, power iteration.

Below the operators, which it never imports.
"""
