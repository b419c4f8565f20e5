"""What a worker does all the time under one worker id: claim, write, recover, and when to look again."""
