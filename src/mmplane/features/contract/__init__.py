"""What a processor promises: of images, clips and sounds."""
