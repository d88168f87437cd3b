"""A hub of our own on the loopback interface, which the real clients accept, and a line to it that breaks."""
