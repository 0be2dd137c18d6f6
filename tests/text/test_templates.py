import pytest

from workloads.api.units import Template
from workloads.text.templates import BadTemplate, render_prompt


def test_chatml_opens_the_assistant_turn_and_no_think_block() -> None:
    assert render_prompt(Template(), "2+2?") == "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n"


def test_chatml_puts_a_stated_system_text_first() -> None:
    rendered = render_prompt(Template(system="Be brief."), "2+2?")
    assert rendered.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n2+2?")


def test_plain_is_the_prompt_itself() -> None:
    assert render_prompt(Template(name="plain"), " a <b> & {c}\n") == " a <b> & {c}\n"


def test_a_file_sees_prompt_system_and_messages_and_escapes_nothing() -> None:
    text = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}|{{ prompt }}|{{ system }}"
    rendered = render_prompt(Template(name="file", text=text, system="s"), "a<b")
    assert rendered == "[system]s[user]a<b|a<b|s"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ promt }}", "promt"),  # codespell:ignore
        ("{% for %}", "does not render"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ prompt.__class__.__mro__ }}", "does not render"),
        ("", "no text"),
    ],
)
def test_a_template_that_does_not_render_says_why(text: str, complaint: str) -> None:
    with pytest.raises(BadTemplate, match=complaint):
        render_prompt(Template(name="file", text=text), "x")
