"""The small networks that are the kernel: one file each, and what they share."""
