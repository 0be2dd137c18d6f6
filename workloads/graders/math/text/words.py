r"""Golds that are a letter of a choice, or words: `\text{(C)}`, `\text{Evelyn}`. Pure text, and linear in it."""

import re

_LETTER_GOLD = re.compile(r"\\text\{\s?\(?(?P<text>[A-J])\)?\s?\}|\((?P<round>[A-J])\)|(?P<bare>[A-J])")
_LETTER = re.compile(
    r"(?:(?i:the|final|correct|i|choose|select|pick|my|answer|option|choice|graph|figure|diagram"
    r"|statement|part|letter|case|is)(?![A-Za-z])\s*+:?\s*+)*+"
    r"(?:\((?P<round>[A-J])\)|(?P<marked>[A-J])[.):]++|(?P<bare>[A-J])(?=\s*+$))\s*+(?P<rest>.*+)",
    re.DOTALL,
)
_OTHER_LETTER = re.compile(r"\([A-J]\)|(?<![A-Za-z])(?:and|or|not|[B-J])(?![A-Za-z])")
_WORDS_GOLD = re.compile(r"\\text\{\s*+(?P<words>[A-Za-z]{2}[A-Za-z]*+(?:[ -][A-Za-z]++)*+)\s*+\}")
_TEXT_COMMAND = re.compile(r"\\text\s?(?=\{)")
_NOISE = re.compile(r"[{}`\"'*$~]|\\[,;: !]|\\(?![A-Za-z])")
_WORD = re.compile(r"[A-Za-z]++|[^A-Za-z\s]++")
_FILLERS = frozenset({
    "the", "a", "an", "it", "its", "is", "are", "was", "answer", "option", "choice", "student", "person",
    "girl", "boy", "player", "runner", "graph", "shape", "curve", "figure", "function", "functions",
    "direction", "due", "to", "toward", "towards", "facing", "heading", "so", "therefore", "thus", "hence", "f",
    "g", "h", "x", "of", "equation", "represents", "i", "choose", "e", "conic", "section", "s", "he", "she", "they",
    "will", "be", "we", "have",
})  # fmt: skip
_VERBS = frozenset({
    "is", "has", "had", "was", "ran", "runs", "walks", "traveled", "travelled", "drove", "won", "wins", "gets",
    "have", "are", "did", "does",
})  # fmt: skip
_BREAKERS = frozenset({
    "not", "no", "neither", "nor", "or", "and", "but", "never", "none", "than", "except", "either", "both",
    "unless", "if", "cannot", "nobody", "almost", "nearly", "half", "semi", "quasi", "without", "isn", "doesn",
    "wasn", "hasn", "t", "non", "north", "south", "west", "east", "odd", "even", "undefined", "unknown",
})  # fmt: skip
_LETTER_IN_TEXT = re.compile(r"\\text\{\s?(?P<letter>\(?[A-J]\)?)\s?\}\s?(?=[\d$\\a-z(-])")
_REMARK = re.compile(r"\s\([^()]*+\)(?=[}\s.]*+$)")
MOST_WORDS = 14
LONGEST = 500


def same_letter(gold: str, answer: str) -> bool | None:
    r"""Returns whether the answer names the gold's letter: `C.`, `\text{Option C}`, `(C)\ 12`.

    None if it names none or several.
    """
    right = _LETTER_GOLD.fullmatch(gold)
    if right is None or len(answer) > LONGEST:
        return None
    match = _LETTER.match(_plain(_LETTER_IN_TEXT.sub(_marked, answer, count=1)))
    if match is None or _OTHER_LETTER.search(match["rest"]):
        return None
    letter = match["round"] or match["marked"] or match["bare"]
    if letter == (right["text"] or right["round"] or right["bare"]):
        return True
    return None if right["bare"] else False


def same_words(gold: str, answer: str) -> bool | None:
    """Returns True if the answer has the gold's words and does not contradict them; None leaves it to math-verify.

    The answer may also have words without content (`an ellipse`), or be a sentence about the gold's words (`Evelyn has
    the highest speed`, `The function is even`) without a negation, an alternative or another name.
    """
    match = _WORDS_GOLD.fullmatch(gold)
    if match is None or len(answer) > LONGEST:
        return None
    wanted = match["words"].replace("-", " ").split()
    remark = _REMARK.search(answer)
    if remark is not None and not _BREAKERS & set(_WORD.findall(remark[0].lower())):
        answer = answer[: remark.start()] + answer[remark.end() :]
    said = [word for word in _WORD.findall(_plain(answer)) if word not in (".", "()", "(", ")", ",", "!", "-")]
    if len(said) > MOST_WORDS:
        return None
    lowered, target = [word.lower() for word in said], [word.lower() for word in wanted]
    if lowered == target:
        return True
    at = next((i for i in range(len(said)) if lowered[i : i + len(target)] == target), None)
    if at is None:
        return None
    before, after = said[:at], said[at + len(target) :]
    others = [word.lower() for word in before + after]
    if _BREAKERS & set(others) or any(word[:1].isupper() and len(word) > 1 for word in after + before[1:]):
        return None
    fills_before = all(word.lower() in _FILLERS or not word.isalpha() for word in before)
    fills_after = all(word.lower() in _FILLERS or not word.isalpha() for word in after)
    if any(word.isdigit() for word in before + after):
        return None
    predicate = fills_before and bool(after) and after[0].lower() in _VERBS
    subject = fills_after and "is" in (word.lower() for word in before[-2:]) and len(before) <= 6
    return True if (fills_before and fills_after) or predicate or subject else None


def _marked(match: re.Match[str]) -> str:
    r"""`\text{C} 12`, which was `\text{C. } 12`, as `(C) 12`."""
    return f"({match['letter'].strip('()')}) "


def _plain(answer: str) -> str:
    return " ".join(_NOISE.sub(" ", _TEXT_COMMAND.sub("", answer)).split())
