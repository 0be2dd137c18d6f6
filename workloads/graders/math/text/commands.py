r"""LaTeX commands that change the look of an answer and not its meaning. Pure, and linear in the text.

Only arguments without inner braces are rewritten; `math_text.normal` repeats its steps, so that nested ones follow.
"""

import re

_DROPPED = [
    "tiny", "scriptsize", "footnotesize", "small", "normalsize", "large", "Large", "LARGE", "huge", "Huge",
    "displaystyle", "textstyle", "scriptstyle", "scriptscriptstyle", "limits", "nolimits", "nonumber", "notag",
    "hline", "strut", "null", "noindent", "bf", "rm", "it", "sf", "tt", "sc", "bfseries", "itshape", "mdseries",
    "rmfamily", "sffamily", "boldmath", "centering", "relax", "checkmark", "blacksquare", "big", "Big", "bigg",
    "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl", "biggr", "Biggl", "Biggr", "bigm", "Bigm", "biggm",
    "Biggm", "mathstrut", "boldsymbol", "bm", "pmb", "mathbf", "mathit", "mathsf", "mathtt", "mathnormal",
    "symbf", "bold", "underline", "uline", "underbar", "ensuremath", "mathord", "mathbin", "mathrel",
    "mathopen", "mathclose", "mathinner", "mathpunct", "smash", "mathop",
]  # fmt: skip
r"""From `\boldsymbol` on they have an argument, which stays in its braces."""
_SPACES = [
    "quad", "qquad", "enspace", "enskip", "thinspace", "medspace", "thickspace", "negthinspace", "space",
    "hfill",
]  # fmt: skip
_RENAMED = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "nicefrac": r"\frac",
    "sfrac": r"\frac", "xfrac": r"\frac",
    "leq": r"\le", "geq": r"\ge", "leqslant": r"\le", "geqslant": r"\ge", "lt": "<", "gt": ">", "neq": r"\ne",
    "bigcup": r"\cup", "bigcap": r"\cap", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "lparen": "(", "rparen": ")", "degree": r"^\circ", "degrees": r"^\circ", "textdegree": r"^\circ", "imath": " i",
    "infin": r"\infty", "varnothing": r"\emptyset", "colon": ":", "cr": r"\\",
    "tabularnewline": r"\\", "newline": r"\\",
    "textdollar": r"\$", "euro": "€", "pounds": "£", "textpercent": r"\%", "cdotp": r"\cdot", "ast": r"\cdot",
    "vee": r"\lor", "wedge": r"\land", "langle": "(", "rangle": ")", "cent": "¢", "textcent": "¢",
    "backslash": r"\setminus", "smallsetminus": r"\setminus",
}  # fmt: skip
_BY_NAME = {**dict.fromkeys(_DROPPED, ""), **dict.fromkeys(_SPACES, " "), **_RENAMED}
_COMMAND = re.compile(r"\\([A-Za-z]++)|\\([\\,;:!>/ \n]|&)")

_WORDS_IN_BOLD = re.compile(
    r"\\(?:mathbf|mathit|mathsf|mathtt|boldsymbol|bm|underline|emph)\s*+\{(?P<words>[A-Za-z]{2}[A-Za-z ]*+:?+)\}"
)
_TEXT_COMMAND = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|sl|md|up|normal)|emph|mbox|hbox|mathrm|rm|operatorname\*?+)\s*+(?=\{)"
)
_SPACED_TEXT = re.compile(r"\\text\s++(?=\{)")
_TEXT = re.compile(r"\\text\{(?P<content>[^{}]*+)\}")
_TEXT_LETTER = re.compile(r"(?<=[\^_])\\text\s*+([A-Za-z0-9])(?![A-Za-z])")
_LEADING_COMMA = re.compile(r"\s*+,\s*+(?P<rest>(?:and|or)\s*+)")
_NO_WORDS = re.compile(r"(?:[-+\d.,;:/()\[\]=<>^*%$\s]|\\[$%]|\\circ(?![A-Za-z])|(?<=[\s,])(?:and|or)(?=\s))*+")
_NUMBER_IN_TEXT = re.compile(r"\s*+(?P<number>(?:\\?[$€£]\s?)?[-+]?\d[\d,./]*+)(?P<rest>(?:\s.*+|\\?%|))$", re.DOTALL)
_ARGUMENT_DROPPED = re.compile(
    r"\\(?:color|textcolor|colorbox|hspace\*?+|vspace\*?+|mspace|[hv]?phantom|tag\*?+|label|enclose|style)\s*+"
    r"(?:\[[^\[\]{}]*+\])?+\{[^{}]*+\}"
)
_NOTHING = re.compile(
    r"\\bbox\s*+\[[^\[\]{}]*+\]|\\(?:over|under)set\s*+\{\s*+\}|(?<![\w\\}\]^])\{\s*+\}|\\(?:begin|end)\s*+\{\s*+"
    r"(?:gathered|gather\*?+|aligned|align\*?+|equation\*?+|split|displaymath|math|center)\s*+\}"
)
_ANGLE = re.compile(r"\\ang\s*+\{\s*+(-?[\d.]++)\s*+\}")
_KERN = re.compile(r"\\(?:kern|mkern|hskip|mskip)\s*+-?[\d.]++\s*+(?:pt|em|ex|mu|cm|mm)")
_ROW_END = re.compile(r"\\\\\*?\s?\[\s*+-?[\d.]++\s*+(?:pt|em|ex|mm|cm|in|bp|sp|\\baselineskip)\s*+\]|\\\\\*")
_SIDE = re.compile(r"\\m?(?:left|right|middle)(?![A-Za-z])\s*+(?P<what>\.(?!\d))?+")
_MATRIX = re.compile(r"\\(begin|end)\{\s*+(?:small|[bBvV]small|psmall)?matrix\s*+\}")
_STARRED_MATRIX = re.compile(r"\\(begin|end)\{\s*+([pb]matrix)\*\s*+\}(?:\s*+\[[lcr]\])?+")
_ARRAY = re.compile(
    r"[(\[]\s*+\\begin\{(?:array|(?:small)?matrix)\}(?:\{[^{}]*+\})?+(?P<rows>(?:[^\\]|\\(?!end\{))*+)\\end\{"
    r"(?:array|(?:small)?matrix)\}\s*+[)\]]"
)
_FUNCTIONS = frozenset({
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "log", "ln",
    "exp", "det", "gcd", "max", "min",
})  # fmt: skip


def plain(text: str) -> str:
    r"""Style, size and colour commands gone, spaces as spaces, one name for each command and for each kind of text.

    `\bigl(\boldsymbol{2},\,\textcolor{red}{3}\bigr)` becomes `({2}, {3})`. Braces stay.
    """
    if "\\" not in text and "{}" not in text:
        return text
    text = _ROW_END.sub(r"\\\\", _KERN.sub(" ", _ARGUMENT_DROPPED.sub("", _NOTHING.sub("", text))))
    text = _STARRED_MATRIX.sub(r"\\\1{\2}", _ANGLE.sub(r"\1^\\circ ", text))
    text = _WORDS_IN_BOLD.sub(r"\\text{\g<words>}", _SIDE.sub("", text))
    text = _SPACED_TEXT.sub(r"\\text", _TEXT_COMMAND.sub(r"\\text", text))
    text = _TEXT.sub(_text, _TEXT_LETTER.sub(r"{\1}", text))
    text = _COMMAND.sub(_command, text)
    text = _ARRAY.sub(lambda m: rf"\begin{{pmatrix}}{m['rows']}\end{{pmatrix}}", text)
    return _MATRIX.sub(r"\\\1{pmatrix}", text)


def _command(match: re.Match[str]) -> str:
    if match[1] is not None:
        return _BY_NAME.get(match[1], match[0])
    if match[2] in "!/":
        return ""
    return match[0] if match[2] in "\\&" else " "


def _text(match: re.Match[str]) -> str:
    r"""`\text{8}` as 8, `\text{6 cm}` as `6\text{ cm}`, `\text{``even.}` as `\text{even}`, `\text{i}` as i."""
    content: str = match["content"].replace("~", " ")
    if comma := _LEADING_COMMA.fullmatch(content):
        return rf",\text{{ {comma['rest'].strip()} }}"
    bare = content.strip().strip("`\"'").rstrip(".,;:!").strip()
    if not bare:
        return " " if content.strip() in ("", "``", "''", ".") else content.strip()
    if bare in ("€", "£", "¢"):
        return bare
    if bare in ("$", r"\$", "%", r"\%"):
        return "\\" + bare[-1]
    if bare in _FUNCTIONS:
        return f"\\{bare} "
    if bare == "i" or bare == "e":
        return f" {bare}"
    if bare.startswith("\\") and bare[1:].isalpha():
        return bare + " "
    if any(character.isdigit() for character in bare) and _NO_WORDS.fullmatch(bare):
        return bare
    if number := _NUMBER_IN_TEXT.match(bare):
        rest = number["rest"].strip()
        return number["number"] + (rest if rest in ("", "%", r"\%") else rf"\text{{ {rest}}}")
    left = " " if content[:1].isspace() else ""
    right = " " if content[-1:].isspace() else ""
    return rf"\text{{{left}{bare}{right}}}"
