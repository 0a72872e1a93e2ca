#!/usr/bin/env python3
"""Publishes over HTTP, with the standard library only.

    tidewheel serve --admin 127.0.0.1:9090 --publish-token SECRET
    TOKEN=SECRET examples/publish.py http://127.0.0.1:9090 orders/eu '{"id": 7}'
"""

import os
import sys
import urllib.error
import urllib.parse
import urllib.request


def publish(admin: str, token: str, topic: str, message: str) -> str:
    """Publishes a text message, and returns the body of the response."""
    request = urllib.request.Request(
        f"{admin}/publish/{urllib.parse.quote(topic)}",
        data=message.encode(),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "text/plain"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read().decode().strip()


def main() -> int:
    if len(sys.argv) != 4 or "TOKEN" not in os.environ:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(publish(sys.argv[1], os.environ["TOKEN"], sys.argv[2], sys.argv[3]))
    except urllib.error.HTTPError as error:
        print(f"{error.code}: {error.read().decode().strip()}", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
