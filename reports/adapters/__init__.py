"""`paceline export`: results in the formats of tools that sites use already."""
