"""The Kubernetes API as the operator uses it: plain dictionaries, a few verbs, precise errors."""
