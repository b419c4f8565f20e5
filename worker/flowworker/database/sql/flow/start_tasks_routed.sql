-- Core 0.17 and newer: the queue is named, and a step only where every step has its own queue.
pgflow.start_tasks($1::text, wanted.msg_ids, $4::uuid, lower($1::text))
