"""Measurements of the analysis itself: what probes cost, and how well cheap ones stand for costly ones. Not imported by
the product.
"""
