"""What a checkpoint's files say of its processors."""
