"""What the chapters share: the modules promoted from the notebooks, and what belongs to the whole course."""
