"""Rendering: from a spec to the objects of Kubernetes, as plain dictionaries. Pure, and the same at each call."""
