"""Trials: their definition, store, search spaces, plan and results. Knows no Ray."""
