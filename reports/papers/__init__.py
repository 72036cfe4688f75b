"""Figures as in the papers, drawn from what the rules of the claims read."""
