"""The text that a server prints once it is ready: requests to paste."""

from __future__ import annotations


def welcome(url: str, model: str, *, after_s: float, keyed: bool) -> str:
    """The text. With keys, the examples read one from the variable MMPLANE_API_KEY."""
    header, key = "", '"none"'
    if keyed:
        header, key = ' -H "authorization: Bearer $MMPLANE_API_KEY"', 'os.environ["MMPLANE_API_KEY"]'
    imports = "import os, openai" if keyed else "import openai"
    return READY.format(url=url, model=model, picture=PICTURE, s=after_s, header=header, key=key, imports=imports)


READY = """
mmplane is ready after {s:.1f} s at {url}, serving {model!r}. Ctrl-C stops it.

  curl {url}/v1/chat/completions -H 'content-type: application/json'{header} -d '{{
    "model": "{model}", "max_tokens": 16, "temperature": 0,
    "messages": [{{"role": "user", "content": [
      {{"type": "text", "text": "Which number is this?"}},
      {{"type": "image_url", "image_url": {{"url": "{picture}"}}}}]}}]}}'

  {imports}
  client = openai.OpenAI(base_url="{url}/v1", api_key={key})
  messages = [{{"role": "user", "content": "Hello"}}]
  answer = client.chat.completions.create(model="{model}", messages=messages, max_tokens=16)
  print(answer.choices[0].message.content)
"""

PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAKgAAABUAgMAAABrdZRFAAAADFBMVEX////KyspGRkYAAADmo1PYAA"
    "AB8UlEQVR42u2VvW4TQRRGz4xNHGGhdRlhJFNYSFR+hMwjgASW6FJAnbyB9xFcUlKHJh3lziO4QhQpLEVI/BVGimAc2/NRbGJb1m"
    "xCQ8V+1Wr37N0zd+/sQp06der8izR2T5hX/U8Aw6cfb7mtF4BjRQd0pRzgYUyiowB7kqZAIV0CFGm0CNDTqQJYfStWQEtJ1CjAaE"
    "4vQjvSVamTQlsKUExoyDG4xCrHarFB7QZtArgzIo7OOdE7HvCWFNqfgcEjD24GvgPxJIk+mwJ4wOF8ee6CJOpyMDfHHnwHHSVRe+"
    "hBuM21Gb98Er23XqvzDD04WJJE9wMg7zB43ieauUEf/wDwR+ypfKw7qxqWUZ4F6K3ccSiLyAGNmHqtLtsaF2hFKlAbyQKYQiqb0F"
    "tWoa1AFqC7rjq43EHXyzooG/P6augPABifV61qMCELGI2vJW25C1ICRU4WsAIjB7RLJoEaQRZorYDCA4OwizZvnPWS++bFBwH+OT"
    "D+UqXaliQtswCMJmvVlEC2hR5O16rJZm1nBv2rynH5aYzpzJtLAJdW3a3aLFHr3t36/cpC2X7ltFfc5bowDoun/zsxe9tVv+6b+P"
    "lR98JSPDmB7x4aC1shwEinCljpesIascqVrqQJjb9BTaE5d6PlHn/j6n9ZnTr/V/4Aefrpn8mCBKYAAAAASUVORK5CYII="
)
"""A drawing of the number 4821, small enough to paste."""
