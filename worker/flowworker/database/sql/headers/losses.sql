-- How often a worker was lost after it had begun this job: as counted so far, and now once more where it is so.
({losses} + (head.state IS NOT DISTINCT FROM 'lost' AND {begun})::integer)
