-- Whether a job may be taken from its holder: there is none, it is we, it is gone, or it has not prolonged the lease.
(
    holder.worker_id IS NULL
    OR holder.worker_id = $1::uuid
    OR holder.state IN ('lost', 'stopped')
    OR q.vt <= me.now - make_interval(secs => $5::double precision)
)
