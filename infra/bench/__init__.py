"""`make bench`: what a path costs, as JSON lines. How to run it and what each line means: docs/bench.md."""
