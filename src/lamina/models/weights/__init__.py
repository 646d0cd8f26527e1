"""Weights from elsewhere: one table of keys per source, and what finds, checks and applies them.

`table.py` says what a table is, `matching.py` finds the one that fits a file, `adapt.py` changes a first layer to other
channel counts, `words.py` and `hub.py` say where weights are; the other files are the tables.
"""
