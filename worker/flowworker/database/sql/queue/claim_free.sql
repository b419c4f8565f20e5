-- Whether no worker holds a job. The parameter has a type also where it is not needed.
(q.headers -> 'flowworker' -> 'holder' IS NULL AND ($5::double precision IS NULL OR true))
