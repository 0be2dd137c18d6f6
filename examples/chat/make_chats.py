"""Writes chats.jsonl: conversations of two questions about sums. `python make_chats.py --out FOLDER`"""

import argparse
import json
import random
from pathlib import Path

CHATS = 240
SYSTEM = "You answer sums. Put the result in a box."


def chat(draw: random.Random) -> dict[str, object]:
    """Every third row has its own system text; the second question continues the first."""
    first, second, third = (draw.randint(1, 9) for _ in range(3))
    messages = [
        {"role": "user", "content": f"What is {first} + {second}?"},
        {"role": "assistant", "content": f"The answer is \\boxed{{{first + second}}}."},
        {"role": "user", "content": f"And {third} more?"},
        {"role": "assistant", "content": f"The answer is \\boxed{{{first + second + third}}}."},
    ]
    if draw.random() < 1 / 3:
        messages = [{"role": "system", "content": SYSTEM}, *messages]
    return {"messages": messages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    out = parser.parse_args().out
    draw = random.Random(7)
    (out / "chats.jsonl").write_text("".join(json.dumps(chat(draw)) + "\n" for _ in range(CHATS)))


if __name__ == "__main__":
    main()
