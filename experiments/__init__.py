"""Training and measuring: from a configuration to tables."""
