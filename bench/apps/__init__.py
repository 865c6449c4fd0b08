"""The contestants. Each is a program: `python -m bench.apps.NAME PORT`, and prints `ready` when it takes calls."""
