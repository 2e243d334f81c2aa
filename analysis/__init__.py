"""Analysis of sweeps: tables, comparisons with their uncertainty, and the report. Imports neither Ray nor torch."""
