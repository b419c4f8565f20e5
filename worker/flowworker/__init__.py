"""Workers for pgflow flows and pgmq queues."""
