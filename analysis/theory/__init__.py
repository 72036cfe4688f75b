"""What the papers' formulas say about an algorithm before it is run: stability, noise, momentum, spectra, traffic.

Pure functions of a few numbers; nothing here runs an algorithm. `cli` makes them the command `paceline theory`.
"""
