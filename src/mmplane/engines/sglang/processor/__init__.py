"""Decodes and transforms outside SGLang's process: a picture's file goes to the sidecar, and its features come back.

launch      in the launcher: whether the sidecar makes pictures, and with which model and backend
install     wraps the creation of SGLang's processor and inserts the next three parts
loading     requests the features of a picture instead of decoding it, and returns an undecoded image
swapped     replaces SGLang's image processor: uses the features of such images instead of computing them
refusal     turns a full sidecar into 503 and Retry-After
trial       the check before any use: two requests both ways must be equal, bit for bit
"""
