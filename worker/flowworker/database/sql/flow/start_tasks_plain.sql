-- Core 0.8 to 0.16.
pgflow.start_tasks($1::text, wanted.msg_ids, $4::uuid)
