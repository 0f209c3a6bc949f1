"""What all ranks must agree on: the leader's decisions, the schedule that follows from them, and the ranks' loops."""
