"""How a run goes through its tiles: engines that fuse them, a spool of tiles on disk, what is finished, memory, recovery."""
