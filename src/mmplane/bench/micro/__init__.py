"""What is measured without a server: decoding, transforms, pickles, handing features over."""
