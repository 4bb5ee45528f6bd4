"""WHAT is asked: a trial, or a space of trials. Frozen, typed, refused early. Knows no torch."""
