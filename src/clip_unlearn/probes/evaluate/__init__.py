"""Evaluations: how well the model still does what it should, and how badly what it should not."""
