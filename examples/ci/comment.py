"""Put a comment on a pull request, or in the place of the one that was put there before: `comment.py FILE NUMBER`.

The first line of FILE is a mark (`<!-- ... -->`) that finds the comment again. Needs GITHUB_TOKEN (pull-requests:
write), GITHUB_API_URL and GITHUB_REPOSITORY; of Python only its own library.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

PAGE = 100
LONGEST = 65_000
"""Characters; GitHub takes 65,536."""


def call(method: str, path: str, body: dict[str, str] | None = None) -> Any:
    """Raises urllib.error.HTTPError."""
    headers = {"Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}", "Accept": "application/vnd.github+json"}
    url = f"{os.environ['GITHUB_API_URL']}/repos/{os.environ['GITHUB_REPOSITORY']}/{path}"
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, headers, method=method), timeout=30) as answer:  # noqa: S310 - of the API's own URL
        return json.load(answer)


def standing(number: int, mark: str) -> int | None:
    """The id of this workflow's comment with the mark; one that a person wrote with the same mark is ignored."""
    page = 1
    while comments := call("GET", f"issues/{number}/comments?per_page={PAGE}&page={page}"):
        for comment in comments:
            if comment["body"].startswith(mark) and comment["user"]["type"] == "Bot":
                return int(comment["id"])
        page += 1
    return None


def main(file: Path, number: int) -> None:
    text = file.read_text(encoding="utf-8")[:LONGEST]
    found = standing(number, text.partition("\n")[0])
    if found is None:
        call("POST", f"issues/{number}/comments", {"body": text})
    else:
        call("PATCH", f"issues/comments/{found}", {"body": text})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
