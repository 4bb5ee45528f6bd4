"""Trains what a sweep hands out, with Ray: the only place that imports it."""
