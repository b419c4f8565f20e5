"""pgflow and pgmq behind the source port."""
