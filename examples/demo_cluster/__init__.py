"""`make demo`: the whole system on a real Kubernetes node, from one command."""
