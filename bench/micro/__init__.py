"""Benchmarks of Paceline itself: what the harness costs. Not imported by the product."""
