"""A DICOM node: receives studies by C-STORE, has a task done on each series, sends the derived series on.

`node` puts the parts together. `listener` speaks with peers and hands what comes to `intake`, which keeps it in the
`spool` and says when a study is complete; `worker` has the task done; `sender` sends. All of them know of a study by
its record (`study`) in the spool, so that a restart goes on where the last process ended. Nothing of a patient is
told: studies and series bear marks, the first digits of the sha256 of their UIDs.
"""
