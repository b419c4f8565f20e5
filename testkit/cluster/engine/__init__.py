"""A docker engine of our own, in namespaces of its own: for machines where none runs, and gone with its cluster."""
