"""What a run would take, and whether it can start: cost, memory, checks."""
