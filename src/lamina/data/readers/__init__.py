"""Readers: one file format, one file. Each says how sure it is that a source is its own, and reads it into `Data`."""
