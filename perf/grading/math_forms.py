r"""Golds of MATH-500 as models write them, and near misses of them, each with the verdict that is due. Pure.

`python -m perf.grading.math_verdicts` grades all of them; `tests/grade/test_math_forms.py` grades a part.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd

Make = Callable[[str], str]


@dataclass(frozen=True)
class Pair:
    """`form`: the name of the way of writing."""

    form: str
    gold: str
    answer: str
    right: bool


AROUND: dict[str, str] = {
    "as it is": "G", "period": "G.", "space and period": "G .", "tie": "~G~", "thin spaces": r"\,G\,", "thick spaces": r"\;G\;", "quad": r"\quad G",
    "control space": "G\\ ", "line breaks": "\nG\n", "dollars": "$G$", "display dollars": "$$G$$", "round delimiters": r"\(G\)",
    "square delimiters": r"\[G\]", "braces": "{G}", "two braces": "{{G}}", "Markdown bold": "**G**", "Markdown bold formula": "**$G$**",
    "backticks": "`G`", "boldsymbol": r"\boldsymbol{G}", "mathbf": r"\mathbf{G}", "bm": r"\bm{G}", "bf": r"{\bf G}", "color": r"\color{red}{G}",
    "color switch": r"{\color{blue} G}", "textcolor": r"\textcolor{blue}{G}", "colour model": r"\textcolor[rgb]{1,0,0}{G}",
    "underline": r"\underline{G}", "large": r"\large G", "Huge": r"{\Huge G}", "displaystyle": r"\displaystyle G", "ensuremath": r"\ensuremath{G}",
    "mathord": r"\mathord{G}", "equals": "= G", "aligned equals": "&= G", "therefore": r"\therefore G", "implies": r"\implies G",
    "Answer": r"\text{Answer: } G", "the answer is": r"\text{The answer is } G", "final answer": r"\text{Final Answer: } G",
    "plain answer": "Answer: G", "plain answer is": "The answer is G", "bold answer": "**Answer:** G", "zero width": "\u200bG\u200b",
    "no-break space": "\u00a0G", "hspace": r"\hspace{1em}G", "null": r"G\null", "check mark": r"G \checkmark", "comma": "G,", "row end": r"G\\",
    "bold and period": r"\boldsymbol{G}.", "dollars and period": "$G$.", "underlined bold": r"\underline{\mathbf{G}}", "semicolon": "G;",
    "colour and large": r"\color{red}{\large G}", "bold in delimiters": r"\(\mathbf{G}\)", "nested box": r"\boxed{G}",
    "so the answer is": r"\text{So the final answer is: } G", "thus": r"\text{Thus, } G", "bold text before": r"\textbf{Answer: } G",
}  # fmt: skip

UNITS = [
    r"G\text{ cm}", r"G\,\text{cm}", r"G~\text{inches}", r"G \text{ square units}", r"G\text{ cm}^2", r"G\ \text{cm}^{2}", r"G\,\mathrm{cm}^2",
    r"G \mathrm{ km/h}", r"G\text{ people}", r"G \text{ dollars}", r"G \textrm{ ways}", r"G\;\mathrm{m}", "G cm", "G inches", "G square units",
    r"\text{G cm}", r"G\,\text{units}^2", r"G\mbox{ cm}^2", r"G \text{ miles per hour}", "G meters", "G years", r"G\ \text{hours}", r"G\text{m}^3",
]  # fmt: skip
DEGREES = [
    r"G^\circ", r"G^{\circ}", "G°", "Gº", r"G\degree", r"G ^ \circ", r"G^{\mathrm{o}}", r"G^\text{o}", r"G \text{ degrees}", r"G\,^\circ", r"G^{ \circ }",
    "G degrees", r"G\text{°}", r"G{}^\circ", r"G^{\text{o}}", r"G^\circ.",
]  # fmt: skip
MONEY = [
    r"\$G", "$G", r"\$ G", r"\$\,G", r"\text{\$}G", r"\text{\$G}", "USD G", r"G \text{ dollars}", r"\$G\text{ dollars}", r"\$~G",
    r"G\text{ USD}", "G dollars", r"\$G.",
]  # fmt: skip
PERCENT = [r"G\%", "G%", r"G \%", r"G\,\%", r"G\text{ percent}", "G percent", r"G\text{\%}", r"G~\%"]
SEPARATORS = [
    ",", "{,}", r",\!", r"\,", r"\;", r"\:", "~", " ", "\u202f", "\u00a0", "\u2009", "’", "'", r"\text{,}", r"\ ", ", ", r"{\,}",
]  # fmt: skip


def forms(gold: str) -> Iterator[Pair]:
    """All the ways of writing this gold, and its near misses."""
    for name, template in AROUND.items():
        if not (name.startswith(("dollars", "display", "Markdown bold formula")) and "$" in gold):
            yield Pair(name, gold, template.replace("G", gold), True)
    for kind in (
        _integers,
        _fractions,
        _decimals,
        _money,
        _degrees,
        _roots,
        _complex,
        _bases,
        _pairs,
        _matrices,
        _lists,
        _words,
        _expressions,
        _pi,
    ):
        yield from kind(gold)


def _all(form: str, gold: str, answers: list[str], right: bool = True) -> Iterator[Pair]:
    for answer in answers:
        yield Pair(form if right else f"{form}, near miss", gold, answer, right)


def _put(templates: list[str], value: str) -> list[str]:
    return [template.replace("G", value) for template in templates]


def _grouped(number: int) -> list[str]:
    text = f"{abs(number):,}"
    return [("-" if number < 0 else "") + text.replace(",", separator) for separator in SEPARATORS]


def _integers(gold: str) -> Iterator[Pair]:
    if not re.fullmatch(r"-?\d+", gold):
        return
    n = int(gold)
    yield from _all("unit", gold, _put(UNITS, gold))
    yield from _all("degrees", gold, _put(DEGREES, gold))
    yield from _all("percent", gold, _put(PERCENT, gold))
    yield from _all("money", gold, _put(MONEY, gold) if n > 0 else [])
    wide = gold.replace("-", "－").translate({ord(d): ord(d) + 0xFEE0 for d in "0123456789"})
    yield from _all(
        "digits",
        gold,
        [
            wide,
            f"{n}.0",
            f"{n}.00",
            f"({n})",
            rf"\mathrm{{{n}}}",
            rf"\text{{{n}}}",
            rf"\textbf{{{n}}}",
            gold.replace("-", "−"),
        ],
    )
    yield from _all(
        "computed",
        gold,
        [
            rf"\frac{{{2 * n}}}{{2}}",
            rf"\frac{{{n}}}{{1}}",
            f"x = {n}",
            f"x={n}.",
            rf"{n - 1} + 1",
            rf"n = \boldsymbol{{{n}}}",
            rf"\sqrt{{{n * n}}}" if n > 0 else gold,
        ],
    )
    yield from _all("equation", gold, [rf"\text{{Area}} = {n}", rf"x + y = {n}", rf"a_{{10}} = {n}", rf"f(2) = {n}"])
    if abs(n) >= 1000:
        yield from _all("thousands", gold, _grouped(n))
        yield from _all(
            "thousands and unit",
            gold,
            [f"{t}\\,\\text{{people}}" for t in _grouped(n)] + [f"{n:,} people", rf"{n:,}\text{{ cm}}^2"],
        )
        mantissa = f"{n / 10 ** (len(str(abs(n))) - 1):.10f}".rstrip("0").rstrip(".")
        power = len(str(abs(n))) - 1
        yield from _all(
            "powers of ten",
            gold,
            [f"{mantissa}e{power}", rf"{mantissa} \times 10^{power}", rf"{mantissa} \cdot 10^{{{power}}}"],
        )
        yield from _all(
            "thousands",
            gold,
            [
                f"{n + 1:,}",
                f"{n + 1000:,}",
                str(n)[:-3],
                f"{str(n)[:-3]}.{str(n)[-3:]}",
                rf"{str(n)[:-3]}\,{(n + 1) % 1000:03d}",
            ],
            False,
        )
    wrong = [n + 1, n - 1, -n if n else 5, 10 * n if n else 10, n + 10]
    yield from _all("integer", gold, [str(w) for w in wrong], False)
    yield from _all(
        "integer",
        gold,
        [
            f"{n}.5",
            f"{n}:1",
            f"{n}_{{8}}",
            f"{n}_8",
            f"{n}, {n + 1}",
            rf"{n} \pm 1",
            rf"{n}\frac{{1}}{{2}}",
            rf"{n} 1/2",
            f"{n}x",
            f"{n},000",
            f"({n}, {n + 1})",
            rf"{n} \text{{ or }} {n + 1}",
            rf"x > {n}",
            rf"\{{{n}, {n + 1}\}}",
            f"{n}.01",
        ]
        if n
        else ["1", "x"],
        False,
    )
    yield from _all(
        "integer",
        gold,
        [
            rf"{n + 1}\text{{ cm}}",
            rf"{n + 1}^\circ",
            rf"\boldsymbol{{{n + 2}}}",
            f"**{n + 1}**",
            rf"\text{{Answer: }} {n + 3}",
            f"{n + 1}.",
        ],
        False,
    )
    if n:
        yield from _all(
            "integer",
            gold,
            [
                rf"{n}\pi",
                rf"{n}i",
                rf"\frac{{1}}{{{n}}}" if abs(n) != 1 else "2",
                rf"\sqrt{{{abs(n) + 1}}}",
                f"{2 * n}",
                rf"\frac{{{n}}}{{2}}",
            ],
            False,
        )


FRACTION = re.compile(r"(-?)\\d?frac\s?(?:\{(\d+)\}|(\d))\s?(?:\{(\d+)\}|(\d+))")


def _fractions(gold: str) -> Iterator[Pair]:
    match = FRACTION.fullmatch(gold)
    if match is None:
        return
    sign, top, bottom = match[1], int(match[2] or match[3]), int(match[4] or match[5])
    a, b = top, bottom
    yield from _all("fraction", gold, [sign + t.replace("A", str(a)).replace("B", str(b)) for t in (
        r"\dfrac{A}{B}", r"\tfrac{A}{B}", r"\cfrac{A}{B}", r"\nicefrac{A}{B}", r"\sfrac{A}{B}", "A/B", "A / B", r"\frac{A.0}{B}", "A⁄B", r"{A \over B}",
        r"{A}/{B}", r"\frac {A} {B}", r"\frac{\,A\,}{\,B\,}", r"\left(\frac{A}{B}\right)", r"A \div B", r"\frac{\text{A}}{\text{B}}", r"\frac{\mathbf{A}}{\mathbf{B}}",
        "(A/B)", r"\displaystyle\frac{A}{B}", r"\frac{A}{B}\text{ cm}", r"\frac{A}{B}~\text{inches}", r"A/B.",
        r"\mathbf{\frac{A}{B}}",
    )])  # fmt: skip
    yield from _all(
        "fraction",
        gold,
        [rf"{sign}\frac{{{2 * a}}}{{{2 * b}}}", rf"\frac{{{sign}{a}}}{{{b}}}", rf"{sign}\frac{{{10 * a}}}{{{10 * b}}}"],
    )
    if a < 10 and b < 10:
        yield from _all(
            "fraction",
            gold,
            [rf"{sign}\frac{a}{b}", rf"{sign}\frac {a}{b}", rf"{sign}\dfrac{a}{b}", rf"{sign}\tfrac{a}{{{b}}}"],
        )
    value = Fraction(a, b)
    rest = b
    while gcd(rest, 10) > 1:
        rest //= gcd(rest, 10)
    if rest == 1 and b < 10**6:
        digits = f"{float(value):.12f}".rstrip("0")
        yield from _all("decimal of a fraction", gold, [sign + digits, sign + digits + "0", sign + digits + "00"])
    else:
        yield from _all("rounded", gold, [sign + f"{float(value):.8f}", sign + f"{float(value):.10f}"])
        yield from _all("rounded", gold, [sign + f"{float(value):.2f}", sign + f"{float(value):.3f}"], False)
    if a > b:
        whole, part = divmod(a, b)
        yield from _all(
            "mixed",
            gold,
            [
                sign + t
                for t in (
                    rf"{whole}\frac{{{part}}}{{{b}}}",
                    f"{whole} {part}/{b}",
                    rf"{whole} \frac{{{part}}}{{{b}}}",
                    rf"{whole}\ \frac{{{part}}}{{{b}}}",
                    rf"{whole}\,\tfrac{{{part}}}{{{b}}}",
                    rf"{whole}\tfrac{{{part}}}{{{b}}}",
                    rf"{whole}~{part}/{b}",
                )
            ],
        )
        yield from _all(
            "mixed",
            gold,
            [
                sign + t
                for t in (
                    f"{whole + 1} {part}/{b}",
                    rf"{whole}\frac{{{part + 1}}}{{{b}}}",
                    rf"{whole}",
                    rf"\frac{{{part}}}{{{b}}}",
                )
            ],
            False,
        )
    yield from _all(
        "fraction",
        gold,
        [
            rf"{sign}\frac{{{b}}}{{{a}}}",
            rf"{sign}\frac{{{a + 1}}}{{{b}}}",
            rf"{sign}\frac{{{a}}}{{{b + 1}}}",
            f"{sign}{a + 1}/{b}",
            rf"{'' if sign else '-'}\frac{{{a}}}{{{b}}}",
            f"{sign}{a}",
            rf"{sign}\frac{{{a}}}{{{b}}}\pi",
            rf"{sign}\frac{{{a}}}{{{b}}}x",
            f"{sign}{a}{b}",
        ],
        False,
    )


def _decimals(gold: str) -> Iterator[Pair]:
    if not re.fullmatch(r"\d*\.\d+", gold):
        return
    places = len(gold.split(".")[1])
    value = Fraction(gold if gold[0] != "." else "0" + gold)
    full = f"{float(value):.{places}f}"
    yield from _all(
        "decimal",
        gold,
        [
            full,
            full + "0",
            full + "00",
            full.removeprefix("0"),
            f"{full}.",
            rf"\frac{{{value.numerator}}}{{{value.denominator}}}",
            f"{value.numerator}/{value.denominator}",
            rf"\text{{{full}}}",
            f"x = {full}",
        ],
    )
    yield from _all("unit", gold, _put(UNITS, full))
    yield from _all("percent", gold, _put(PERCENT, full))
    step = Fraction(1, 10**places)
    wrong = [
        value + step,
        value - step,
        value * 10,
        value / 10,
        value + step / 2,
        value + step / 100 if places < 5 else value + step / 4,
    ]
    yield from _all("decimal", gold, [f"{float(w):.{places + 3}f}".rstrip("0") for w in wrong], False)


def _money(gold: str) -> Iterator[Pair]:
    if not gold.startswith("\\$"):
        return
    plain = gold.removeprefix("\\$").replace(",\\!", "")
    yield from _all("money", gold, [plain, *_put(MONEY, plain)])
    if "." not in plain and int(plain) >= 1000:
        yield from _all(
            "money",
            gold,
            ["\\$" + t for t in _grouped(int(plain))] + [f"{t}\\,\\text{{dollars}}" for t in _grouped(int(plain))],
        )
    yield from _all("money", gold, [f"\\${plain}1", f"\\$1{plain}", f"\\$-{plain}"], False)


def _degrees(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"(\d+)\^\\circ", gold)
    if match is None:
        return
    yield from _all("degrees", gold, [match[1], *_put(DEGREES, match[1])])
    angle = Fraction(int(match[1]), 180)
    radians = rf"\frac{{{angle.numerator}\pi}}{{{angle.denominator}}}" if angle.denominator > 1 else r"\pi"
    yield from _all("radians", gold, [radians] if angle != 1 else [])
    n = int(match[1])
    yield from _all(
        "degrees",
        gold,
        [
            rf"{n + 1}^\circ",
            f"{n - 1}°",
            f"{180 - n if n != 90 else 45}",
            rf"{n + 10}\text{{ degrees}}",
            r"\frac{\pi}{7}",
            rf"{n}\pi",
        ],
        False,
    )


def _roots(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"(-?)(\d*)\s?\\sqrt\{?(\d+)\}?", gold)
    if match is None:
        return
    sign, factor, under = match[1], match[2], match[3]
    for times in ("", " ", r"\cdot ", r"\times ", "*", r"\,") if factor else ("",):
        yield from _all(
            "root",
            gold,
            [
                f"{sign}{factor}{times}{root}"
                for root in (
                    rf"\sqrt{{{under}}}",
                    f"√{under}",
                    rf"\sqrt {{{under}}}",
                    f"sqrt({under})",
                    f"sqrt{{{under}}}",
                    rf"\sqrt({under})",
                    f"{{{under}}}^{{1/2}}" if not factor or times.strip() else rf"\sqrt{{{under}}}",
                    rf"\sqrt{{\mathbf{{{under}}}}}",
                    rf"{{\sqrt{{{under}}}}}",
                    rf"\sqrt[2]{{{under}}}",
                    f"√({under})",
                    f"√{{{under}}}",
                )
            ],
        )
    product = rf"{factor}\cdot" if factor else ""
    yield from _all(
        "root",
        gold,
        [
            f"{sign}{product}{under}^{{0.5}}",
            rf"{sign}{product}{under}^{{\frac{{1}}{{2}}}}",
            rf"{sign}{product}{under}^{{\frac12}}",
        ],
    )
    value = float(factor or 1) * float(under) ** 0.5 * (-1 if sign else 1)
    yield from _all("rounded root", gold, [f"{value:.8f}", f"{value:.10f}"])
    yield from _all(
        "root",
        gold,
        [
            f"{value:.2f}",
            f"{value:.3f}",
            rf"{sign}{int(factor or 1) + 1}\sqrt{{{under}}}",
            rf"{sign}{factor}\sqrt{{{int(under) + 1}}}",
            f"{sign}{int(factor or 1) + 1}√{under}",
            rf"{'' if sign else '-'}{factor}\sqrt{{{under}}}",
            under,
            rf"{sign}{factor}\sqrt[3]{{{under}}}",
            rf"\pm {factor}\sqrt{{{under}}}",
        ],
        False,
    )


def _complex(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"(-?\d+)\s?([+-])\s?(\d+)i", gold)
    if match is None:
        return
    a, sign, b = match.groups()
    yield from _all("complex", gold, [t.replace("A", a).replace("S", sign).replace("B", b) for t in (
        "ASBi", "A S Bi", "A S B i", r"A S B\,i", r"A S B\cdot i", r"A S B \cdot i", r"AS B\mathrm{i}", r"A S B\text{i}", r"A S Bi.", "A S B*i", r"A S \mathit{B}i",
        "SBi + A" if sign == "-" else "Bi + A", "A + (SB)i", "(ASBi)", "z = ASBi", r"A S B\mathbf{i}", r"A S Bi\,", r"A S B\,\mathrm{i}", r"A S B\imath", "A S B𝑖",
        r"A S B {i}", r"A\ S\ B\ i", r"A S B\times i",
    )])  # fmt: skip
    other = "+" if sign == "-" else "-"
    yield from _all(
        "complex",
        gold,
        [
            f"{a}{other}{b}i",
            f"{int(a) + 1}{sign}{b}i",
            f"{a}{sign}{int(b) + 1}i",
            f"{a}{sign}{b}",
            f"{b}{sign}{abs(int(a))}i" if abs(int(a)) != abs(int(b)) else "5",
            f"{a} {sign} {int(b) + 1} i",
            rf"{a}{other}{b}\mathrm{{i}}",
            f"{a}i{sign}{b}",
        ],
        False,
    )


BASE_WORDS = {2: "two", 4: "four", 5: "five", 6: "six", 7: "seven", 8: "eight", 9: "nine", 10: "ten"}


def _bases(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"(\d+)_\{?(\d)\}?", gold)
    if match is None:
        return
    n, b = match[1], int(match[2])
    yield from _all("base", gold, [t.replace("N", n).replace("B", str(b)).replace("W", BASE_WORDS[b]) for t in (
        "N_B", "N_{B}", r"N_{\text{B}}", r"N_{\text{W}}", r"N_{\mathrm{W}}", r"N_\text{W}", "(N)_B", "(N)_{B}", r"\text{N}_B", "{N}_{B}", r"N\text{ in base }B", "N in base B",
        r"N \text{ (base } B)", r"N_{(B)}", r"N \text{ base } B", r"N_{\text{base }B}", r"\mathbf{N}_B", r"\mathrm{N}_{B}", r"N\text{ (base B)}", r"N_{B}.", r"x = N_B", "N base B",
        r"N_{\textbf{B}}", r"\boxed{N_B}", r"N_{\small B}", r"N_{\text{(B)}}", r"N\, _{B}", r"(N)_{\text{W}}",
    )])  # fmt: skip
    for other in {7, 9, 10, 4, 6} - {b}:
        yield from _all(
            "base",
            gold,
            [
                f"{n}_{other}" if other < 10 else f"{n}_{{10}}",
                f"{n}_{{{other}}}",
                rf"{n}_{{\text{{{BASE_WORDS[other]}}}}}",
                f"({n})_{{{other}}}",
                rf"{n}\text{{ in base }}{other}",
            ],
            False,
        )
    yield from _all(
        "base",
        gold,
        [
            f"{int(n) + 1}_{b}",
            f"{int(n) + 1}_{{{b}}}",
            f"{int(n) + 1}",
            str(int(n, b)),
            f"{n}0_{b}",
            f"{n[::-1]}_{b}" if n != n[::-1] else "1_5",
        ],
        False,
    )


PAIR = re.compile(r"(?:\\left\s?)?([(\[])\s?(.*?)\s?(?:\\right\s?)?([)\]])")


def _pairs(gold: str) -> Iterator[Pair]:
    match = PAIR.fullmatch(gold)
    if match is None or "," not in gold or "cup" in gold:
        yield from _unions(gold) if "cup" in gold else ()
        return
    left, inner, right = match.groups()
    parts = [part.strip() for part in inner.split(",")]
    answers = [
        f"{left}{inner}{right}",
        rf"\left{left}{inner}\right{right}",
        rf"\bigl{left}{inner}\bigr{right}",
        rf"\Big{left}{inner}\Big{right}",
        rf"\big{left} {inner} \big{right}",
        rf"\left {left} {inner} \right {right}",
    ]
    answers += [left + joint.join(parts) + right for joint in (",", ", ", r",\,", r",\ ", r",\;", " , ", ",~", r",\!")]
    answers.append(left + ", ".join(rf"\mathbf{{{part}}}" for part in parts) + right)
    answers.append(left + ", ".join(f"{{{part}}}" for part in parts) + right)
    yield from _all("bracketed", gold, answers)
    is_interval = "infty" in inner or "]" in right or "[" in left or inner == r"-\sqrt{3}, \sqrt{3}"
    if not is_interval and left == "(":
        yield from _all(
            "point", gold, [rf"\langle {inner} \rangle", f"P({inner})", rf"\lparen {inner} \rparen", f"P = ({inner})"]
        )
    if len(parts) == 2:
        a, b = parts
        yield from _all(
            "bracketed",
            gold,
            [
                f"{'[' if left == '(' else '('}{inner}{right}",
                f"{left}{inner}{']' if right == ')' else ')'}",
                f"{left}{b}, {a}{right}" if a != b else "5",
            ],
            False,
        )
        yield from _all(
            "bracketed",
            gold,
            [f"{left}{a}, {b}+1{right}" if "infty" not in b else f"{left}{a}1, {b}{right}", a, rf"\pm {b}"],
            False,
        )
        if is_interval:
            yield from _inequalities(gold, left, a, b, right)
    else:
        yield from _all(
            "bracketed",
            gold,
            [
                left + ", ".join(parts[::-1]) + right,
                left + ", ".join(parts[:-1]) + right,
                left + ", ".join([*parts[:-1], parts[-1] + "1"]) + right,
            ],
            False,
        )


def _inequalities(gold: str, left: str, a: str, b: str, right: str) -> Iterator[Pair]:
    for low, high, kind in (
        (r"\le", r"\ge", ""),
        (r"\leq", r"\geq", ""),
        ("≤", "≥", ""),
        (r"\leqslant", r"\geqslant", ""),
    ):
        lower = low if left == "[" else "<"
        upper = low if right == "]" else "<"
        above, below = high if left == "[" else ">", high if right == "]" else ">"
        if "infty" in b:
            pairs = [
                (
                    f"x {above} {a}",
                    f"{a} {lower} x",
                    f"x {'>' if left == '[' else high} {a}",
                )
            ]
        elif "infty" in a:
            pairs = [(f"x {upper} {b}", f"{b} {below} x", f"x {'<' if right == ']' else low} {b}")]
        else:
            pairs = [
                (
                    f"{a} {lower} x {upper} {b}",
                    f"{b} {below} x {above} {a}",
                    f"{a} {lower} x {'<' if upper != '<' else low} {b}",
                )
            ]
        for one, mirrored, wrong in pairs:
            for text in (
                one,
                mirrored,
                rf"\{{x \mid {one}\}}",
                rf"\{{x : {one}\}}",
                one.replace("x", "k"),
                one.replace("x", "t") + ".",
                rf"\{{ x \in \mathbb{{R}} \mid {one} \}}",
                rf"\boldsymbol{{{one}}}",
                rf"{one}, x \in \mathbb{{R}}",
            ):
                yield Pair("interval" + kind, gold, text, True)
            yield from _all("interval", gold, [wrong, wrong.replace("x", "y")], False)
    yield from _all("interval", gold, [rf"x \in {left}{a}, {b}{right}", rf"x\in\left{left}{a},{b}\right{right}"])


def _unions(gold: str) -> Iterator[Pair]:
    first, second = gold.split(r" \cup ")
    yield from _all(
        "union",
        gold,
        [f"{first} {joint} {second}" for joint in (r"\cup", "∪", r"\bigcup", r"\text{ or }", "or", r"\,\cup\,")]
        + [rf"{second} \cup {first}", rf"x \in {gold}"],
    )
    (a, b), (c, d) = (part[1:-1].split(",") for part in (first, second))
    one = f"x < {b}" if "infty" in a else f"{a} < x < {b}"
    two = f"x > {c}" if "infty" in d else f"{c} < x < {d}"
    yield from _all(
        "union",
        gold,
        [one + joint + two for joint in (r" \text{ or } ", " or ", r", \text{or } ", r" \lor ", r"\text{ or }")],
    )
    if b.strip() == c.strip():
        yield from _all(
            "union",
            gold,
            [
                rf"{a} < x < {d}, x \ne {b}",
                rf"{a} < x < {d} \text{{ and }} x \neq {b}",
                rf"{a} < x < {d},\; x \neq {b}",
            ],
        )
    yield from _all(
        "union",
        gold,
        [
            first,
            second,
            f"{one}",
            rf"{first[:-1]}] \cup {second}",
            rf"{first} \cap {second}",
            one + r" \text{ or } " + two.replace(">", r"\ge").replace(f"{c} <", f"{c} \\le"),
        ],
        False,
    )


def _matrices(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"\\begin\{pmatrix\}(.*)\\end\{pmatrix\}", gold)
    if match is None:
        return
    inner = match[1]
    for rows in (
        inner,
        inner.replace(r"\\", r"\\[4pt]"),
        inner.replace(r"\\", r"\\[2mm]"),
        inner.replace(r"\\", r"\\ [1ex]"),
        inner.replace(" ", ""),
        re.sub(r"(\d+)/(\d+)", r"\\frac{\1}{\2}", inner),
        re.sub(r"(\d+)/(\d+)", r"\\tfrac{\1}{\2}", inner).replace(r"\\ ", r"\\[6pt] "),
        inner.rstrip() + r"\\",
        re.sub(r"-?\d+(?:/\d+)?", r"\\mathbf{\g<0>}", inner),
    ):
        for env in ("pmatrix", "bmatrix", "smallmatrix"):
            yield Pair("matrix", gold, rf"\begin{{{env}}}{rows}\end{{{env}}}", True)
    columns = "c" * (inner.split(r"\\")[0].count("&") + 1)
    yield from _all(
        "matrix",
        gold,
        [
            rf"\left(\begin{{array}}{{{columns}}}{inner}\end{{array}}\right)",
            rf"\left[\begin{{matrix}}{inner}\end{{matrix}}\right]",
            rf"\left(\begin{{smallmatrix}}{inner}\end{{smallmatrix}}\right)",
            rf"\left( \begin{{matrix}}{inner}\end{{matrix}} \right)",
            rf"\left[\begin{{array}}{{{columns}}}{inner}\end{{array}}\right]",
        ],
    )
    number = re.search(r"-?\d+", inner)
    assert number is not None
    changed = inner[: number.start()] + str(int(number[0]) + 1) + inner[number.end() :]
    rows = inner.split(r"\\")
    yield from _all(
        "matrix",
        gold,
        [
            rf"\begin{{pmatrix}}{changed}\end{{pmatrix}}",
            rf"\begin{{bmatrix}}{changed.replace(chr(92) * 2, chr(92) * 2 + '[4pt]')}\end{{bmatrix}}",
            r"\begin{pmatrix}" + r"\\".join(rows[:-1]) + r"\end{pmatrix}",
            r"\begin{pmatrix}" + r"\\".join(rows[::-1]) + r"\end{pmatrix}",
        ],
        False,
    )


def _lists(gold: str) -> Iterator[Pair]:
    if not re.fullmatch(r"-?\d+(?:,\s?-?\d+)+", gold) or re.fullmatch(r"\d+,\d{3}", gold):
        return
    parts = [part.strip() for part in gold.split(",")]
    joined = ", ".join(parts)
    yield from _all(
        "list",
        gold,
        [
            joined,
            ",".join(parts),
            ", ".join(parts[::-1]),
            rf"\{{{joined}\}}",
            " ".join(parts),
            r"\text{ and }".join(parts) if len(parts) == 2 else joined,
            r",\ ".join(parts),
            r",\,".join(parts),
            "; ".join(parts),
            r", \text{ and } ".join([", ".join(parts[:-1]), parts[-1]]),
            " and ".join(parts) if len(parts) == 2 else joined,
            rf"\boldsymbol{{{joined}}}",
            r"\text{ or }".join(f"x = {p}" for p in parts),
            ", ".join(f"x = {p}" for p in parts),
            "x = " + joined,
            ", ".join(rf"\mathbf{{{p}}}" for p in parts),
            rf"\left\{{{joined}\right\}}",
        ],
    )
    yield from _all(
        "list",
        gold,
        [
            ", ".join(parts[:-1]),
            joined + ", 100",
            ", ".join([*parts[:-1], parts[-1] + "1"]),
            "".join(parts) if "-" not in gold else "0",
            str(sum(map(int, parts))),
        ],
        False,
    )


NAMES = {"Evelyn": ["Briana", "Carla", "Debra", "Angela"], "Navin": ["Ali", "Sam"]}


def _words(gold: str) -> Iterator[Pair]:
    letter, word = re.fullmatch(r"\\text\{\(([A-E])\)\}", gold), re.fullmatch(r"\\text\{([A-Za-z]{2,})\}", gold)
    if letter is not None:
        a = letter[1]
        templates = (
            "A",
            "(A)",
            "A.",
            "A)",
            r"\text{A}",
            r"\text{A.}",
            r"\text{Option A}",
            r"\text{Choice (A)}",
            r"\text{option } A",
            r"\textbf{(A)}",
            r"\textbf{A}",
            r"\mathrm{A}",
            r"\mathbf{(A)}",
            "**A**",
            "**(A)**",
            r"\text{Graph A}",
            "Option A",
            r"\text{(A) } 12",
            "A: 12",
            r"\text{(A)}\ 5",
            r"\text{A: it grows}",
            r"\textbf{(A) }\frac{1}{2}",
            r"\text{The answer is A}",
            "(A).",
            r"\boldsymbol{(A)}",
            r"\text{(A).}",
            r"(\text{A})",
            r"\text{Figure A}",
            r"\mathsf{A}",
            "The correct option is (A)",
            r"\text{Answer: A}",
        )
        yield from _all("letter", gold, [t.replace("A", a).replace(f"{a}nswer", "Answer") for t in templates])
        for other in "ABCDE".replace(a, ""):
            yield from _all(
                "letter",
                gold,
                [
                    other,
                    f"({other})",
                    f"{other}.",
                    rf"\text{{({other})}}",
                    rf"\text{{Option {other}}}",
                    rf"\textbf{{({other})}} 12",
                    f"{a}, {other}",
                    rf"\text{{{a} and {other}}}",
                    rf"\text{{({a}) or ({other})}}",
                    rf"\text{{not {a}}}",
                    f"({a}), ({other})",
                    f"{a}{other}",
                ],
                False,
            )
    elif word is not None:
        w = word[1]
        yield from _all(
            "words",
            gold,
            _put(
                [
                    r"\text{G}",
                    "G",
                    r"\textbf{G}",
                    r"\mathrm{G}",
                    r"\textit{G}",
                    r"\operatorname{G}",
                    r"\textsf{G}",
                    r"\text{G.}",
                    r"\text{ G }",
                    "**G**",
                    r"\text{``G''}",
                    r'\text{"G"}',
                    r"\mbox{G}",
                    r"\text{Answer: G}",
                    r"\text{The answer is G}",
                    r"\mathbf{G}",
                    r"\text{G}\ ",
                    r"\mathit{G}",
                    r"\boldsymbol{\text{G}}",
                    "G.",
                    r"\text{G}.",
                    r"\text{'G'}",
                    r"\underline{\text{G}}",
                    r"\text{\textbf{G}}",
                ],
                w,
            ),
        )
        yield from _all(
            "words", gold, [rf"\text{{{w.upper()}}}", rf"\text{{{w.capitalize()}}}", rf"\text{{{w.lower()}}}"]
        )
        if w in NAMES:
            yield from _all(
                "words",
                gold,
                _put(
                    [
                        r"\text{Student G}",
                        r"\text{G has the greatest average speed}",
                        r"\text{G} \text{ has the highest speed}",
                        r"\text{The student is G}",
                    ],
                    w,
                ),
            )
            yield from _all(
                "words",
                gold,
                [
                    t.replace("G", w).replace("O", other)
                    for other in NAMES[w]
                    for t in (
                        r"\text{O}",
                        "O",
                        r"\text{O.}",
                        r"\text{G and O}",
                        r"\text{G or O}",
                        r"\text{not G}",
                        r"\text{O, G}",
                        r"\text{O has a higher speed than G}",
                        r"\text{Student O}",
                    )
                ],
                False,
            )
        else:
            sentences = {
                "even": ["even function", "The function is even", "an even function", "f is even", "It is even"],
                "ellipse": ["an ellipse", "(E) ellipse", "The graph is an ellipse", "It is an ellipse"],
                "east": ["due east", "to the east", "The direction is east"],
            }
            yield from _all("words", gold, [rf"\text{{{s}}}" for s in sentences.get(w, [])])
            wrong = {
                "even": [
                    "odd",
                    "neither",
                    "not even",
                    "neither even nor odd",
                    "even and odd",
                    "odd function",
                    "The function is odd",
                ],
                "ellipse": ["circle", "parabola", "hyperbola", "not an ellipse", "ellipse or circle", "half ellipse"],
                "east": ["west", "north", "southeast", "north east", "not east", "east or west"],
            }
            yield from _all("words", gold, [rf"\text{{{s}}}" for s in wrong.get(w, [])] + wrong.get(w, [])[:1], False)


def _expressions(gold: str) -> Iterator[Pair]:
    if not re.search(r"(?<![\\a-zA-Z])[a-hj-z](?![a-zA-Z])", gold) or re.search(
        r"text|mbox|frac|infty|circ|\\in|begin", gold
    ):
        return
    answers = [
        gold.replace(" ", ""),
        re.sub(r"\^(\d)", r"^{\1}", gold),
        re.sub(r"\s?([+-])\s?", r" \1 ", gold).strip(),
        re.sub(r"\s?([+-])\s?", r" \\,\1\\, ", gold).strip(),
        re.sub(r"(\d)([a-z])", r"\1 \2", gold),
        re.sub(r"(\d)([a-z])", r"\1 \\cdot \2", gold),
        re.sub(r"(\d)([a-z])", r"\1\\,\2", gold),
        re.sub(r"\^2", "²", re.sub(r"\^3", "³", gold)),
        gold.replace("-", "−"),
        re.sub(r"(\d)([a-z])", r"\1*\2", gold),
    ]
    yield from _all("expression", gold, answers)
    if gold.startswith("y ="):
        yield from _all(
            "equation", gold, [gold.replace("y", "f(x)", 1), gold + r", x \in \mathbb{R}", gold.replace(" ", "") + "."]
        )
    wrong = [
        gold.replace("+", "-", 1),
        gold.replace("-", "+", 1),
        gold + "+1",
        re.sub(r"\d", lambda m: str((int(m[0]) + 1) % 10 or 2), gold, count=1),
        f"2({gold})" if "=" not in gold else gold + "1",
    ]
    yield from _all("expression", gold, [w for w in wrong if w != gold], False)


def _pi(gold: str) -> Iterator[Pair]:
    match = re.fullmatch(r"(\d*)\s?\\pi", gold)
    if match is None:
        return
    n = match[1]
    yield from _all(
        "pi",
        gold,
        _put(
            [
                r"G\pi",
                r"G \pi",
                r"G\cdot\pi",
                r"G\cdot \pi",
                r"G\times\pi",
                "Gπ",
                "G π",
                "Gpi",
                r"G\,\pi",
                r"G\mathrm{\pi}",
                r"G~\pi",
                r"G\boldsymbol{\pi}",
                r"G\pi\text{ cm}^2",
                r"G\pi~\text{square units}",
                r"G\,\pi\,\text{cm}^3",
                r"G\pi \text{ units}",
                r"G{\pi}",
            ],
            n,
        )
        if n
        else [r"\pi", "π", "pi", r"1\pi", r"\pi."],
    )
    m = int(n or 1)
    yield from _all(
        "pi",
        gold,
        [
            rf"{m + 1}\pi",
            rf"{m}",
            rf"{m}\pi^2",
            f"{m * 3.14:.2f}",
            rf"\frac{{\pi}}{{{m + 1}}}",
            f"{m + 1}π",
            rf"-{m}\pi",
        ],
        False,
    )
