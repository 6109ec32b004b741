"""Scripts to run from a checkout: ``python -m experiments.NAME``."""
