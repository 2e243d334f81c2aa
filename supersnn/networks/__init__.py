"""One body for each architecture, usable with ReLU or with spiking neurons."""
