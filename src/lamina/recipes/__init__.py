"""Named, typed, runnable descriptions."""
