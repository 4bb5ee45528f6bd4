"""What to try next, and what to stop: functions of the recorded trials, which write nothing."""
