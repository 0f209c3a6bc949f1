"""Charts as SVG, one file each, in the reader's light or dark colours. Pure; nothing is measured or judged here."""
