"""Tables → plotly figures. Each figure carries its own description in words, in its layout's `meta`."""
