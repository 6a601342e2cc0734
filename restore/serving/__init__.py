"""Places where people live already: servers and pages that hand their data to the pipelines. One folder a place.

Called by the verbs `serve` and `view`; nothing here reconstructs by itself.
"""
