"""Unicode characters of mathematics to the LaTeX or ASCII that means the same. Pure, and linear in the text."""

import re

_WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
_NARROW_SPACES = "\u00a0\u2007\u2008\u2009\u200a\u202f\u205f"
"""Spaces that group the digits of a number; `numbers` reads the LaTeX that they become."""
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\u2061\u2062\u2063\u2064\ufe0e\ufe0f\ufeff"

_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "‒": "-", "﹣": "-", "➖": "-",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ", "⁄": "/",
    "∕": "/", "±": r"\pm ", "∓": r"\mp ",
    "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∉": r"\notin ",
    "∅": r"\emptyset ", "∖": r"\setminus ",
    "√": r"\sqrt ", "∛": r"\sqrt[3] ", "∜": r"\sqrt[4] ", "°": r"^\circ ", "º": r"^\circ ",
    "˚": r"^\circ ", "∘": r"\circ ",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "∣": "|", "∤": r"\nmid ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "∧": r"\land ", "∨": r"\lor ", "⇒": r"\Rightarrow ", "→": r"\to ", "∴": r"\therefore ",
    "‖": r"\|", "²": "^{2}", "³": "^{3}",
    "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "δ": r"\delta ", "ε": r"\epsilon ",
    "θ": r"\theta ", "λ": r"\lambda ",
    "μ": r"\mu ", "π": r"\pi ", "ρ": r"\rho ", "σ": r"\sigma ", "τ": r"\tau ", "φ": r"\phi ",
    "ϕ": r"\phi ", "ψ": r"\psi ", "ω": r"\omega ",
    "𝜋": r"\pi ", "𝑖": "i", "ⅈ": "i", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
    "∂": r"\partial ", "，": ",", "、": ",", "。": ".",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}",
    "⅚": r"\frac{5}{6}", "⅐": r"\frac{1}{7}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}",
    "⅞": r"\frac{7}{8}", "⅑": r"\frac{1}{9}", "⅒": r"\frac{1}{10}",
    "“": '"', "”": '"', "‘": "'", "’": "'", "′": "'", "\u3000": " ",
}  # fmt: skip
_TABLE: dict[int, str | int | None] = {
    **_WIDE,
    **dict.fromkeys(map(ord, _INVISIBLE)),
    **dict.fromkeys(map(ord, _NARROW_SPACES), r"\,"),
    **{ord(symbol): latex for symbol, latex in _SYMBOLS.items()},
}
_HIGH = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni", strict=True))
_LOW = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₙ", "0123456789+-=()n", strict=True))
_HIGH_RUN, _LOW_RUN = re.compile(f"[{''.join(_HIGH)}]++"), re.compile(f"[{''.join(_LOW)}]++")
_HIGH_FRACTION = re.compile(f"([{''.join(_HIGH)}]++)⁄([{''.join(_LOW)}]++)")
_ROOTS = {"√": "", "∛": "[3]", "∜": "[4]"}
_ROOT = re.compile(r"([√∛∜])\s*(\d++|[a-zA-Z](?![a-zA-Z]))")


def in_latex(text: str) -> str:
    r"""Rewrites `√13`, `x³`, `－１２５`, `5½` as `\sqrt{13}`, `x^{3}`, `-125`, `5\frac{1}{2}`. ASCII stays."""
    if text.isascii():
        return text
    text = _HIGH_FRACTION.sub(lambda m: rf"\frac{{{_plain(m[1], _HIGH)}}}{{{_plain(m[2], _LOW)}}}", text)
    text = _HIGH_RUN.sub(lambda m: f"^{{{_plain(m[0], _HIGH)}}}", text)
    text = _LOW_RUN.sub(lambda m: f"_{{{_plain(m[0], _LOW)}}}", text)
    text = _ROOT.sub(lambda m: rf"\sqrt{_ROOTS[m[1]]}{{{m[2]}}}", text)
    return text.translate(_TABLE)


def _plain(run: str, table: dict[str, str]) -> str:
    return "".join(table[character] for character in run)
