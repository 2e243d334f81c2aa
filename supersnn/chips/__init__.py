"""Neuromorphic chips: their published limits, and which of them a network exceeds."""
