"""The contracts of processors for images, clips and sounds."""
