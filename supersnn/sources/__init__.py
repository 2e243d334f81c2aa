"""Sources of images: a module for each kind, and the registry of their names."""
