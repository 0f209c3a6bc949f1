"""Everything that all ranks must agree on: the leader's decisions, the schedule that follows, and the ranks' loops."""
