"""What a batch means: updates, metrics, decoding."""
