"""How problems are presented to a model if the file does not state it.

A trained model gets the problem in the template of its own training data, with nothing added, because it was trained on
nothing else. The base has had no chat training, so it gets a completion prompt.
"""

from controller.experiment.models import BenchmarkSpec, PromptSpec
from workloads.api.units import Prompting, Template


def trained_prompting(prompt: PromptSpec, template: Template, template_override: Template | None) -> Prompting:
    return Prompting(
        template=template_override or template,
        instruction=prompt.instruction or "",
        prefill=prompt.prefill or "",
        stop=tuple(prompt.stop),
    )


def base_prompting(benchmark: BenchmarkSpec, instruction: str, template_override: Template | None) -> Prompting:
    """Returns the prompting of the base: the benchmark's basePrompt if it has one, else `instruction`.

    `instruction` is that of the benchmark or its grader.
    """
    return Prompting(
        template=template_override or Template(name="plain"),
        instruction=benchmark.base_prompt.instruction or instruction,
        prefill=benchmark.base_prompt.prefill or "",
        stop=tuple(benchmark.base_prompt.stop),
    )
