"""The papers' claims: what each says, the rule that decides it, fixed before anything is run, and the evidence it asks
for. A rule is a function from evidence to a verdict; it never sees which verdict is wished for."""
