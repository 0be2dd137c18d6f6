"""Hostile text at the borders: terminals, XML, Markdown, JSON."""

import json
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from workloads.untrusted import encodable, markdown, one_line, printable

HOSTILE = (
    "\x1b]0;owned\x07\x1b[31mred\x1b[2J",
    "\x9b31m",
    "cannot open [/usr/lib/libcuda.so] [rank, hidden] [link=https://evil]x[/link]",
    "NUL \0, half \ud800, none \uffff, back \x08, carriage\rreturn",
    "right to left \u202e and isolate \u2066, zero width \u200b, line \u2028 separator",
    "a | b\n# Heading\n<script>alert(1)</script> [x](javascript:alert(1)) ![i](https://evil/i.png) @everyone #12",
    "`code` **bold** __bold__ ~~gone~~ <img src=x> &amp; https://evil.example www.evil.example \\| \\",
    ":smile: [bold]b[/bold]",
)

any_text = st.text(st.characters(codec=None), max_size=40) | st.sampled_from(HOSTILE)


def test_characters_that_a_terminal_obeys_are_replaced_and_others_stay() -> None:
    assert printable("\x1b[31mred\x07") == "\ufffd[31mred\ufffd"
    assert (
        printable("two\nlines\tand a tab, é, 数学, \u00a0, \u3000, 😀")
        == "two\nlines\tand a tab, é, 数学, \u00a0, \u3000, 😀"
    )
    assert printable("\u202egpj.exe\u2028\ud800\uffff") == "\ufffdgpj.exe\ufffd\ufffd\ufffd"


@given(any_text)
def test_printable_text_is_valid_xml_and_utf_8_and_is_not_changed_again(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert len(shown) == len(text)
    element = ET.Element("failure", message=shown)
    element.text = shown
    read = ET.fromstring(ET.tostring(element, encoding="utf-8"))
    assert read.text == (shown or None)


@given(any_text)
def test_markdown_shows_the_text_and_nothing_begins_in_it(text: str) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    tokens = parser.parse(f"| name | n |\n| --- | --- |\n| x{markdown(text)} | 7 |\n")
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 4, "the table has its two rows of two cells"
    assert {child.type for child in cells[2].children or ()} <= {"text", "text_special"}
    shown = "".join(child.content for child in cells[2].children or ())
    assert shown.replace("\u200b", "") == f"x{one_line(text)}".rstrip()


@pytest.mark.parametrize("address", ["https://evil.example", "HTTP://evil", "www.evil.example", "ftp://evil"])
def test_no_address_person_or_issue_is_linked(address: str) -> None:
    assert address not in markdown(f"see {address}")
    assert "@team" not in markdown("ask @team")
    assert "#12" not in markdown("see #12")
    assert markdown("a@b") == "a@b"


@given(any_text)
def test_json_holds_every_text(text: str) -> None:
    assert json.loads(json.dumps(encodable(text), ensure_ascii=False).encode()) == encodable(text)


def test_one_line_is_cut_where_it_must_be_short() -> None:
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("x" * 50, 10) == "xxxxxxx..."
