"""Reports: folders of static HTML that open from disk, without a network, and can be mailed.

`study` is what a report shows; `from_run` and `from_recon` make one of a benchmark and of a reconstruction; `render`
writes it. Stands above `restore.bench`, below the command line.
"""
