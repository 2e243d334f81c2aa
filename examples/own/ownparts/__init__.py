"""Parts of one's own for SuperSNN: networks, neurons, a data set, losses, and parts of the search."""
