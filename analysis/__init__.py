"""The answer: tables of a sweep, comparisons with their uncertainty, and the report. No Ray, no torch."""
