"""`paceline compare`: what changed between two results folders, for people, for programs and as an exit code."""
