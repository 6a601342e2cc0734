"""Our plugin of napari: volumes read with their place, and `restore volume` as a widget. `napari.yaml` is its manifest.

Called by napari, which finds it through the entry point `napari.manifest`; importing it imports no napari.
"""
