"""Running one task: the handler, its deadline, and what came of it."""
