"""A server of the MRD streaming protocol (FIRE, Open Recon): acquisitions in, images with positions out.

`server` listens, `session` is one connection's conversation, `messages` its bytes, `spool` what came, `configurations`
the names that may be asked for, `reconstruction` the way to `pipelines/run_recon`, `images` the way back.
"""
