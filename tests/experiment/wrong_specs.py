"""Wrong experiments, each made by one change of a right one, and the expected message."""

MINIMAL = """\
apiVersion: potstill.dev/v1alpha1
kind: Experiment
metadata: {name: small}
spec:
  base: {model: ./base}
  data:
    sums: {uri: sums.jsonl}
  runs:
    - name: first
      data: sums
      samples: 100
      sequenceTokens: 128
      overlong: drop
      checkpointEverySamples: 50
  evaluation:
    benchmarks: [{name: math-500}]
    budgets: [128]
"""

# Each row: the replaced text, its replacement, and the expected message.
WRONG = {
    "misspelt field": ("      samples: 100", "      sample: 100", "line 11: spec.runs[0].sample: unknown field; did you mean samples?"),
    "misspelt in other case": ("sequenceTokens: 128", "sequence_tokens: 128", "did you mean sequenceTokens?"),
    "unknown field at the top of spec": ("  evaluation:", "  evaluations:", "did you mean evaluation?"),
    "misspelt choice": ("overlong: drop", "overlong: dropp", "'dropp' is not one of truncate, drop; did you mean drop?"),
    "wrong type": ("samples: 100", "samples: many", "spec.runs[0].samples"),
    "negative": ("samples: 100", "samples: -100", "greater than 0"),
    "missing required": ("  base: {model: ./base}\n", "", "spec.base: is required"),
    "unknown data": ("data: sums\n", "data: sum\n", "spec.runs[0].data: sum is not under data; did you mean sums?"),
    "unused data": ("  runs:\n", "    spare: {uri: x.jsonl}\n  runs:\n", "spec.data.spare: is used by no run"),
    "remote data without hash": ("uri: sums.jsonl", "uri: s3://b/sums.jsonl", "spec.data.sums.sha256: is required"),
    "samples and epochs": ("samples: 100", "samples: 100\n      epochs: 2", "goes without samples: state one of them"),
    "neither samples nor epochs": ("      samples: 100\n", "", "spec.runs[0].samples: is required (or epochs)"),
    "no uri": ("uri: sums.jsonl", "system: x", "spec.data.sums.uri: is required (or mixture"),
    "mixture of nothing": ("uri: sums.jsonl", "mixture: {sum: 1}", "sum is not under data; did you mean sums?"),
    "checkpoint not at a step": ("EverySamples: 50", "EverySamples: 60", "60 is not a whole number of batches"),
    "checkpoint after the end": ("EverySamples: 50", "EverySamples: 150", "more than the run's 100 samples"),
    "no length": ("      sequenceTokens: 128\n", "", "sequenceTokens: is required, here or under training"),
    "unknown benchmark": ("math-500", "math500", "math500 is not built in; did you mean math-500?"),
    "own benchmark without grader": ("{name: math-500}", "{name: mine, uri: x.jsonl}", "grader: is required with uri"),
    "built-in name taken": ("{name: math-500}", "{name: math-500, uri: x.jsonl, grader: math}", "built-in benchmark's name"),
    "benchmark twice": ("[{name: math-500}]", "[{name: math-500}, {name: math-500}]", "math-500 is used twice"),
    "budgets not sorted": ("budgets: [128]", "budgets: [128, 64]", "sorted: [64, 128]"),
    "no budgets": ("budgets: [128]", "budgets: []", "spec.evaluation.budgets"),
    "budget of a run": ("data: sums\n", "data: sums\n      budgetTokens: 64\n", "64 is not one of evaluation.budgets"),
    "n at temperature 0": ("budgets: [128]", "budgets: [128]\n    sampling: {n: 4}", "greedy outputs are all the same"),
    "instruction without problem": (
        "{name: math-500}", "{name: math-500, prompt: {instruction: think}}", "does not hold {problem}",
    ),
    "bad pattern": (
        "{name: math-500}",
        "{name: own, uri: x, grader: exact, completion: pattern, completionPattern: '('}",
        "spec.evaluation.benchmarks[0].completionPattern: is not a regular expression",
    ),
    "pattern that RE2 lacks": (
        "{name: math-500}",
        "{name: own, uri: x, grader: exact, completion: pattern, completionPattern: '(?=a)b'}",
        "spec.evaluation.benchmarks[0].completionPattern: is not a regular expression of RE2",
    ),
    "pattern too large": (
        "{name: math-500}",
        "{name: own, uri: x, grader: exact, completion: pattern, completionPattern: '(a{1000}){1000}'}",
        "spec.evaluation.benchmarks[0].completionPattern: is not a regular expression of RE2",
    ),
    "pattern without rule": (
        "{name: math-500}", "{name: own, uri: x, grader: exact, completionPattern: a}", "goes with completion: pattern",
    ),
    "limit and problems": ("{name: math-500}", "{name: math-500, limit: 3, problems: [a]}", "goes without problems"),
    "run named base": ("name: first", "name: base", "base is the base model's name"),
    "run without data": ("      data: sums\n", "", "spec.runs[0].data: is required"),
    "external run that trains": (
        "      samples: 100\n", "      samples: 100\n      checkpoints: {publish: true, expect: [5]}\n",
        "is for trainings here, and checkpoints states another trainer",
    ),
    "unknown gate candidate": (
        "  evaluation:", "  gate: {candidate: frist@last, require: [{benchmark: math-500, maxDrop: 0.1}]}\n  evaluation:",  # codespell:ignore
        "did you mean first@last?",
    ),
    "gate at no checkpoint": (
        "  evaluation:", "  gate: {candidate: first@70, require: [{benchmark: math-500, maxDrop: 0.1}]}\n  evaluation:",
        "first has no checkpoint at 70; it has 50, 100",
    ),
    "gate on another benchmark": (
        "  evaluation:", "  gate: {candidate: first@100, require: [{benchmark: mbpp-plus, maxDrop: 0.1}]}\n  evaluation:",
        "mbpp-plus is not under evaluation",
    ),
    "gate against itself": (
        "  evaluation:",
        "  gate: {candidate: first@last, baseline: first@last, require: [{benchmark: math-500, maxDrop: 0.1}]}\n  evaluation:",
        "is the candidate itself",
    ),
    "candidate of nothing": ("  evaluation:", "  candidates: [{name: c}]\n  evaluation:", "needs either adapter or model"),
    "candidate with a run's name": (
        "  evaluation:", "  candidates: [{name: first, adapter: x}]\n  evaluation:", "first is a run's name too",
    ),
    "short revision": ("{model: ./base}", "{model: Qwen/Q, revision: main}", "'main' is not a commit: give its 40 hex digits, because a branch"),
    "hex that YAML takes for a number": (
        "{uri: sums.jsonl}", "{uri: sums.jsonl, sha256: " + "1" * 64 + "}", "put it in quotes",
    ),
    "a name Kubernetes refuses": ("{name: small}", "{name: Small_One}", "metadata.name"),
    "another kind": ("kind: Experiment", "kind: Experimnt", "did you mean Experiment?"),  # codespell:ignore
    "another version": ("v1alpha1", "v2", "apiVersion"),
    "a field twice": ("      samples: 100", "      samples: 100\n      samples: 50", "line 12: spec.runs[0].samples: is repeated"),
    "tab in YAML": ("  base:", "\tbase:", "is not YAML"),
    "two documents": ("kind: Experiment", "kind: Experiment\n---\na: 1", "holds 2 documents"),
}  # fmt: skip
