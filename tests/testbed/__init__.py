"""Hosts with shaped links: what can be told without one, and what holds on a real one (marker `testbed`)."""
