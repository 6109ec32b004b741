"""What the deterministic action does: how far it moves, and within which margin a greedy one stays."""
