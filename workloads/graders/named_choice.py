r"""The letter that an answer to a multiple-choice question names. Pure, and linear in the answer.

The first of these that names a letter decides:

1. The whole answer: a letter (`B`, `(b)`, `B. because`, `\text{B}`, `**B** because`), or the text of a choice.
2. The last box in it.
3. The last sentence that gives the answer: `the answer is B`, `B is correct`, `I choose (b)`, `the answer is Oslo`.
4. The last mention of one: `option B`, `therefore B`.

A sentence that rejects a letter (`option B is wrong`, `not B`) names none, and one that gives several names none.
"""

import re
from collections.abc import Sequence

from workloads.graders.extraction.boxed import boxes
from workloads.graders.text import is_exact

_WRAPPED = re.compile(
    r"^(?:\\(?:text|mathrm|mathbf|textbf|textrm|boldsymbol|bm|boxed|fbox|underline)\s?\{(?P<a>.*)\}"
    r"|\{\s*+\"answer\"\s*+:\s*+\"(?P<r>[^\"]*+)\"\s*+\}|\$(?P<b>.*)\$|\*\*(?P<c>.*)\*\*|__(?P<d>.*)__|\{(?P<e>.*)\}|\\\((?P<f>.*)\\\)|\\\[(?P<g>.*)\\\]"
    r"|\[(?P<h>[^\[\]]*+)\]|\[\[(?P<i>[^\[\]]*+)\]\]|<(?P<j>[A-Za-z])>|\"(?P<k>[^\"]*+)\"|'(?P<l>[^']*+)'|`(?P<m>[^`]*+)`"
    r"|\*(?P<n>[^*]*+)\*|_(?P<o>[^_]*+)_|\((?P<p>\([A-Za-z]\))\)|<answer>(?P<q>.*)</answer>"
    r")[.,]?$",
    re.DOTALL | re.IGNORECASE,
)
"""A text in one pair of delimiters."""
_SPECIAL_END = re.compile(r"(?:<\|[a-z_]{1,20}\|>|</s>|<eos>)$")
_CHOICE = re.compile(r"^\(?(?P<letter>[A-Za-z])(?:[).:\s!;,]|$)")
_CHOICE_AND_TEXT = re.compile(r"^\(?(?P<letter>[A-Za-z])\)?\s*+(?:[-–—=→.:,)]|->)?\s*+(?P<text>.++)$", re.DOTALL)
_REASON = re.compile(r"^(?P<letter>[A-Z]),?\s++(?:because|since|as)\s")
_BOLD_CHOICE = re.compile(r"^(?:\*\*|__)\s*+\(?(?P<letter>[A-Za-z])\)?[.:]?\s*+(?:\*\*|__)(?![A-Za-z0-9])")
_MARKS = r"(?:\\(?:text|mathrm|mathbf|textbf|boxed|fbox)\s?\{|(?-i:<b>)|[*$({_\[<\"'`]|\\\(|\s)"
_ADVERBS = (
    r"(?:therefore|thus|then|clearly|definitely|indeed|probably|likely|most\s++likely|hence|simply|obviously|option|choice"
    r"|letter|the|correct|best|right|one|actually|now)"
)
_ANSWER = (
    r"(?:(?:correct|right|best|final)\s++(?:answer|choice|option|response|letter)|answer|ans|response|selection|letter"
    r"|réponse|respuesta(?:\s++correcta)?|antwort|risposta|resposta|ответ)s?"
)
_GIVEN = re.compile(
    rf"(?<![A-Za-z])(?<!not )(?:{_ANSWER}\.?(?:\s++letter)?(?:\s++(?:to|for)\s++(?:this|the)"
    rf"(?:\s++(?:question|problem))?|\s++here|,\s++then,?)?+"
    r"\*{0,2}(?:\s++(?:is|would\s++be|must\s++be|should\s++be|will\s++be|est|es|ist|è|é)(?![A-Za-z]))?+"
    rf"|(?:I|we)(?:\s++(?:would|will)|'d|'ll)?\s++(?:choose|pick|select|chose|go\s++with)|(?:choose|pick|select))(?P<link>\s*+(?:[:=：-]\s*+)?\*{{0,2}}(?:\s*+{_ADVERBS}(?![A-Za-z]),?){{0,6}}+:?+)"
    rf"(?P<marks>{_MARKS}{{0,12}}+)(?P<letter>[A-Z])(?![A-Za-z0-9]|['’][A-Za-z])(?=(?P<after>[^\n]{{0,60}}))"
    rf"|(?:答案|答え|정답|选择|選択|选)\s*+(?:是|为|為|は|:|：)?\s*+(?P<marks_after>{_MARKS}{{0,12}}+)(?P<letter_after>[A-Z])(?![A-Za-z0-9])"
    rf"|(?<![A-Za-z'’])(?P<subject_marks>[*(\[]{{0,4}}+)(?P<subject>[A-Z])[*)\]]{{0,4}}+\s++is\s++(?:the\s++)?(?:correct|right|best|answer)(?![A-Za-z])",
    re.IGNORECASE,
)
"""A sentence that gives a letter as the answer."""
_MENTIONED = re.compile(
    rf"(?<![A-Za-z])(?:(?:option|choice)s?(?:\s++(?:is|would\s++be|must\s++be))?+\s*+:?+"
    rf"|(?:so|therefore|thus|hence),?|=>|→|⇒)(?P<marks>{_MARKS}{{0,12}}+)(?P<letter>[A-Z])(?![A-Za-z0-9]|['’][A-Za-z])(?=(?P<after>[^\n]{{0,60}}))",
    re.IGNORECASE,
)
"""A letter after `option`, `therefore` or an arrow."""
_TEXT_GIVEN = re.compile(
    rf"(?<![A-Za-z]){_ANSWER}\*{{0,2}}(?:\s++is|\s*+:)\*{{0,2}}:?\s*+(?=(?P<text>[^\n]{{1,200}}))", re.IGNORECASE
)
"""A sentence that gives the text of a choice as the answer."""
_ENDS_CLAUSE = re.compile(r"$|[.,;:!?)\]}*$\"'`>。]")
_CLOSERS = re.compile(r"^[*)\]}\"'`$_\\]*+")
_SEVERAL = re.compile(
    r"^\s*+(?:(?:,\s*+)?(?:or|and)(?![a-z])|[/&,])\s*+(?:option\s++|choice\s++)?[*(\[$]*+(?-i:[B-Z])(?![A-Za-z'’])",
    re.IGNORECASE,
)
_REJECTED = re.compile(
    r"^[^.\n;,]{0,30}?\b(?:is|are|was|seems|would\s++be|looks|cannot|can't|could)\b[^.\n;]{0,30}?"
    r"\b(?:wrong|incorrect|not|false|bad|invalid|out|tempting|impossible|eliminated)\b|^\s*+(?:isn't|cannot|can't|isn’t)",
    re.IGNORECASE,
)
"""The text after a letter, if it rejects the letter."""
_ACCEPTED = re.compile(
    r"^\s*+(?:is\s++(?:the\s++)?(?:correct|right|best|answer)(?![a-z])|$|[.,;:!?)\]}*$])", re.IGNORECASE
)
"""The text after a letter, if it confirms the letter or ends the clause."""
_MARKED = frozenset("*({[_\\\"'`<")
"""Marks before a letter that show that it is a choice and not a word."""
MOST_WRAPPINGS = 20
LONGEST_WRAPPED = 2_000
"""A longer text is not one letter or choice in delimiters."""
_GAP = re.compile(r"[^\S\n]{2,}|\s{3,}")
"""Sentences are looked for in a text without long gaps, which would make the search quadratic."""
_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x24B6 + n: ord("A") + n for n in range(26)}


def choice_of(answer: str, choices: Sequence[str]) -> str | None:
    """The letter (upper case) that an answer names, or None."""
    text = _unwrapped(_SPECIAL_END.sub("", answer.strip()).strip())
    letter = _alone(text, choices)
    if letter is None and (boxed := boxes(answer).answer) is not None:
        letter = _alone(_unwrapped(boxed), choices)
    if letter is None and (named := _given(_GAP.sub(" ", _ascii(text)), choices)) is not None:
        letter = _known(named, choices)
    return letter


def _alone(text: str, choices: Sequence[str]) -> str | None:
    """The letter that the whole text is or begins with, or whose choice it is."""
    if (named := _letter_of_text(text, choices)) is not None:
        return named
    text = _ascii(text[:100]) + text[100:]
    if bold := _BOLD_CHOICE.match(text):
        return _known(bold["letter"].upper(), choices)
    if several := _CHOICE.match(text):
        letter = several["letter"].upper()
        if len(text) <= 3 or text[:1] == "(" or text[1:2] in ").:":
            return None if _SEVERAL.match(text[1:].lstrip(")")) else _known(letter, choices)
    if reason := _REASON.match(text):
        return _known(reason["letter"], choices)
    if (pair := _CHOICE_AND_TEXT.match(text[:LONGEST_WRAPPED])) is not None:
        letter = pair["letter"].upper()
        if _letter_of_text(pair["text"], choices) == letter:
            return letter
    return None


def _letter_of_text(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the choice with this text; the case and a point at the end count only between two choices."""
    for index, choice in enumerate(choices):
        if is_exact(text, choice):
            return chr(ord("A") + index)
    if len(text) > LONGEST_WRAPPED:
        return None
    plain = text.casefold().rstrip(" .")
    same = [index for index, choice in enumerate(choices) if plain and is_exact(plain, choice.casefold().rstrip(" ."))]
    return chr(ord("A") + same[0]) if len(same) == 1 else None


def _given(text: str, choices: Sequence[str]) -> str | None:
    """The last letter that a sentence gives as the answer; without such a sentence, the last that is mentioned."""
    given = [letter for match in _GIVEN.finditer(text) for letter in _letters(match, choices)]
    if given:
        return given[-1] or None
    if said := [match["text"] for match in _TEXT_GIVEN.finditer(text)]:
        before_point = _unwrapped(re.split(r"[.!]\s|\s?\(|,", said[-1], maxsplit=1)[0].strip())
        named = _letter_of_text(_unwrapped(said[-1].strip()), choices) or _letter_of_text(before_point, choices)
        if named is not None:
            return named
    mentioned = None
    for match in _MENTIONED.finditer(text):
        after = _after(match["after"])
        if _REJECTED.match(after) or _SEVERAL.match(after):
            continue
        if match[0][:1].lower() in "sth=→⇒" and not (match["letter"].isupper() and _ACCEPTED.match(after)):
            continue
        mentioned = _letter(match["letter"], match["marks"], after) or mentioned
    return mentioned


def _letters(match: re.Match[str], choices: Sequence[str]) -> list[str]:
    """The letter of a sentence in a list; [""] for several letters; empty for none."""
    if (letter := match["letter_after"] or match["subject"]) is not None:
        return [letter] if letter.isupper() and (letter != "I" or len(choices) > 8) else []
    after = _after(match["after"])
    if _SEVERAL.match(after):
        return [""]
    if _REJECTED.match(after):
        return []
    letter = _letter(match["letter"], match["link"] + match["marks"], after)
    return [letter] if letter else []


def _letter(letter: str, marks: str, after: str) -> str | None:
    """A small letter, and I, only in brackets, in bold or at a clause's end."""
    if letter.isupper() and letter != "I":
        return letter
    return letter.upper() if _MARKED & set(marks) or _ENDS_CLAUSE.match(after.lstrip()) else None


def _after(text: str) -> str:
    return _CLOSERS.sub("", text)


def _ascii(text: str) -> str:
    """Full-width letters and signs, and letters in circles, as ASCII."""
    return text if text.isascii() else text.translate(_WIDE)


def _known(letter: str, choices: Sequence[str]) -> str | None:
    return letter if not choices or ord(letter) - ord("A") < len(choices) else None


def _unwrapped(text: str) -> str:
    for _ in range(MOST_WRAPPINGS if len(text) <= LONGEST_WRAPPED else 0):
        match = _WRAPPED.match(text)
        if match is None:
            break
        inner = next(group for group in match.groups() if group is not None)
        if _closes_early(inner):
            break
        text = inner.strip()
    return text


def _closes_early(inner: str) -> bool:
    r"""The first and the last delimiter are not each other's: `$x$ or $y$`, `**C** and **D**`, `\text{a} \text{b}`."""
    depth = 0
    for character in inner:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return True
    return "**" in inner or "$" in inner or "__" in inner
