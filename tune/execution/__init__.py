"""Who carries the work out: Ray or this process, the trial in its worker, teachers and banks before it."""
