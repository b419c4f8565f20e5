"""The thread that keeps a process alive in the database: heartbeats, leases, announcements, dead peers."""
