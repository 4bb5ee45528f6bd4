"""Hyper-parameter sweeps for continuous kernel convolutional networks.

Config asks, data and models are, training does, record remembers, sweep repeats, report tells,
cli speaks. Each of those words is a folder, and each knows only the ones before it.
"""

__version__ = "0.1.0"
