"""`paceline reproduce`: a paper's runs, its claims decided, and the report."""
