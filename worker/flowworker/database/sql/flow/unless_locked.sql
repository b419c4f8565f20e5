-- Leaves out results whose run or task another transaction has locked.
SKIP LOCKED
