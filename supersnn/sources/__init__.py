"""Where images come from: one room a kind of source, and the registry of their names."""
