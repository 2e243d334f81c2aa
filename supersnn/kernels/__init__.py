"""The neurons' loop over time and back, once for each kind of machine; `choice.py` says which one serves where."""
