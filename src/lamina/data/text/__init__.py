"""Text as a model reads it: tokenizers, and the preprocessing of texts."""
