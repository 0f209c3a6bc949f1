"""`mmplane bench`: measures the deliveries and compares the results with the predictions of the analyses."""
