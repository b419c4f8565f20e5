-- Leaves out results whose job another transaction has locked.
JOIN {queue_table} AS unlocked ON unlocked.msg_id = r.msg_id AND unlocked.read_ct = r.read_ct
FOR UPDATE OF unlocked SKIP LOCKED
