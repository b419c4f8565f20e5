-- In an installation from before nothing says when a worker ended.
SELECT NULL::timestamptz
