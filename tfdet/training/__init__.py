"""Recipes to a compiled model and a run: optimizer, schedule, averages, checkpoints, resuming.
`trainer` runs it; `trained.load_trained` opens what it left.
"""
