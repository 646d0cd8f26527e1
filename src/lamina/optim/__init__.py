"""Optimizers that torch lacks, update rules, schedules, clipping."""
