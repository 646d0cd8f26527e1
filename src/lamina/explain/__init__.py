"""Looking inside: views and the report."""
