"""Lipschitz bounds of plain networks: proven from above, searched from below."""
