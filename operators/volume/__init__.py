"""Forward models of volumes (D, H, W) that were reconstructed already."""
