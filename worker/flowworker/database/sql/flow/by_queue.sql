-- Core 0.17 and newer has no index on a task's message alone, but one on its queue and message.
AND t.queue_name = lower($1::text)
