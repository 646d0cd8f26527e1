"""Readers, columns and splits, preprocessing, augmentation, batching."""
