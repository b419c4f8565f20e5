-- Has the session plan its statements anew when they are next used.
DISCARD PLANS
