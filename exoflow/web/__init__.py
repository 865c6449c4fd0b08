"""What exoflow tells by HTTP: its health."""
