"""Real Kubernetes for tests and the demo: a control plane of plain processes, a node in namespaces, or kind."""
