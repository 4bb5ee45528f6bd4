"""What came out, from the study. Knows no Ray and no torch."""
