"""How a prompt becomes the text before a response."""

from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from workloads.api.units import Template


class BadTemplate(Exception):
    """The user's Jinja source does not parse or does not render."""


def render_prompt(template: Template, prompt: str) -> str:
    """Everything that stands before the response, the opening of the assistant's turn included.

    chatml: the turns of Qwen's chat format, the system turn only if one is stated, and never a `<think>` block.
    plain: the prompt as it is (after the system text and a blank line, if one is stated).
    file: the user's Jinja source over `prompt`, `system`, `messages` and `add_generation_prompt` (true), with the
    whitespace rules of Hugging Face chat templates (trim_blocks, lstrip_blocks).
    Raises BadTemplate.
    """
    match template.name:
        case "chatml":
            system = f"<|im_start|>system\n{template.system}<|im_end|>\n" if template.system else ""
            return f"{system}<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        case "plain":
            return f"{template.system}\n\n{prompt}" if template.system else prompt
        case "file":
            return _render_file(template, prompt)


def _render_file(template: Template, prompt: str) -> str:
    if not template.text:
        raise BadTemplate("template `file` holds no text: give the Jinja file's content")
    system = [{"role": "system", "content": template.system}] if template.system else []
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.globals["raise_exception"] = _raise_exception
    try:
        return environment.from_string(template.text).render(
            prompt=prompt,
            system=template.system or "",
            messages=[*system, {"role": "user", "content": prompt}],
            add_generation_prompt=True,
        )
    except (TemplateError, TypeError, ValueError) as error:
        raise BadTemplate(f"the Jinja template does not render: {error}") from error


def _raise_exception(message: str) -> Any:
    raise TemplateError(message)
