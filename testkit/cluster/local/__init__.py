"""One Kubernetes node in network, mount and PID namespaces of its own; it needs root and no container engine."""
