"""`paceline advise`: which algorithm to take on a calibrated cluster, and what would change the answer."""
