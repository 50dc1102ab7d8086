"""Programs that a person runs; each writes JSON, a figure, and a table on the screen.

``python -m benchmarks`` lists them.
"""
