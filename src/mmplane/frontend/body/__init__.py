"""What a body may say, as types; and what of it must be made before the ranks can do it."""
