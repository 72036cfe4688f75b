"""Hosts with shaped links on one Linux machine: network namespaces, joined by a switch, one rank or more on each."""
