"""What a user writes: flows, queues and their handlers, checked when their module is imported."""
