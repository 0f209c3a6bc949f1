"""Decode and transform outside SGLang's process: a picture's file goes to the sidecar, its features come back in place.

launch      in the launcher: whether, and with which model and backend the sidecar is started
install     around the making of SGLang's processor: puts the three pieces below into it
loading     a picture is not decoded: its features are asked for, and a file that nobody has decoded stands for it
swapped     SGLang's image processor, which takes the features of such files instead of making them
refusal     a full sidecar is 503 and Retry-After
trial       before all that is used: two requests both ways, bit for bit
"""
