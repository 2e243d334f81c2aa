"""Plotly figures of the tables. Each has a description in words, in its layout's `meta`."""
