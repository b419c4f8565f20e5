-- pgmq takes its own lock, so that two callers at once are safe. $1: the name.
SELECT pgmq.create($1)
