"""Kernels for the neurons' loop over time, forward and backward; `choice.py` selects one for each tensor."""
