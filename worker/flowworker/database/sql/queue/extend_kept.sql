-- One queue's share of the jobs that are still ours.
SELECT number FROM kept_{place}
