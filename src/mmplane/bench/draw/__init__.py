"""Charts as SVG: one file each, in the light and dark colours of whoever looks. Pure; measures and judges nothing."""
