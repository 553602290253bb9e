"""From tables to theory, figures and the report."""
