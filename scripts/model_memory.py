"""Prints the tables of docs/one-gpu-machine.md: what the Qwen3 bases take of disk and of GPU memory.

Every figure comes from the functions by which the trainer and the vLLM engine decide whether a task fits.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from workloads.engines.memory import MemoryPlan, gpu_work, plan_memory  # noqa: E402
from workloads.engines.vllm.config import SLOTS, VllmSettings, graph_rows, parse_flags, slot_layers  # noqa: E402
from workloads.models.shapes import ModelShapes, shapes_of  # noqa: E402
from workloads.train.memory import Memory, TrainingSizes, largest_micro_batch, predict  # noqa: E402

GIB = 2**30
MIB = 2**20
TOKENS = 4096
RANK = 32
PROMPT_TOKENS = 512
"""Beside a budget of TOKENS."""
CARDS = {"h200": 143_771, "h100": 81_559, "a100": 81_920, "l40s": 46_068, "rtx-4090": 24_564}
"""By profile: MiB of memory, as nvidia-smi shows it."""
MODELS = {
    "Qwen3-0.6B": (28, 1024, 3072, 16, 8, 0, True),
    "Qwen3-1.7B": (28, 2048, 6144, 16, 8, 0, True),
    "Qwen3-4B": (36, 2560, 9728, 32, 8, 0, True),
    "Qwen3-8B": (36, 4096, 12288, 32, 8, 0, False),
    "Qwen3-14B": (40, 5120, 17408, 40, 8, 0, False),
    "Qwen3-32B": (64, 5120, 25600, 64, 8, 0, False),
    "Qwen3-30B-A3B": (48, 2048, 768, 32, 4, 128, False),
}
"""(layers, hidden, inner, heads, key and value heads, experts, tied embeddings): each model's config.json."""


def sizes_of_model(name: str) -> TrainingSizes:
    layers, hidden, inner, heads, kv_heads, experts, tied = MODELS[name]
    return TrainingSizes(layers, hidden, inner, heads, kv_heads, 128, experts, 8 if experts else 0, 151_936, tied)


def shapes_of_model(name: str) -> ModelShapes:
    layers, hidden, inner, heads, kv_heads, experts, tied = MODELS[name]
    config = {
        "model_type": "qwen3_moe" if experts else "qwen3",
        "architectures": ["Qwen3MoeForCausalLM" if experts else "Qwen3ForCausalLM"],
        "num_hidden_layers": layers, "hidden_size": hidden, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "head_dim": 128, "vocab_size": 151_936, "max_position_embeddings": 32_768,
        "intermediate_size": 3 * hidden if experts else inner, "moe_intermediate_size": inner,
        "num_experts": experts or None, "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [],
        "tie_word_embeddings": tied,
    }  # fmt: skip
    return shapes_of({key: value for key, value in config.items() if value is not None})


def training(name: str) -> Memory:
    """LoRA of RANK on attention and on the feed-forward layers, in bfloat16."""
    target = ("attention", "experts") if MODELS[name][5] else ("attention", "mlp")
    return predict(sizes_of_model(name), RANK, target)


def weights(name: str) -> int:
    """Bytes in bfloat16, without adapters' padding."""
    return predict(sizes_of_model(name), 0, ()).model


def generation(name: str, card_mib: int, settings: VllmSettings) -> MemoryPlan:
    """As the vLLM engine plans it for adapters of RANK on all layers."""
    shapes = shapes_of_model(name)
    return plan_memory(
        shapes,
        weights(name),
        "bfloat16",
        int(card_mib * MIB * settings.gpu_memory_utilization),
        slots=settings.max_loras or SLOTS["all"],
        max_rank=settings.max_lora_rank or RANK,
        longest_tokens=TOKENS + PROMPT_TOKENS,
        batch_tokens=settings.max_num_batched_tokens,
        rows=settings.max_num_seqs,
        targets=slot_layers("all", shapes),
        extra_work=gpu_work(shapes, "bfloat16", settings.max_num_seqs, graph_rows(settings)),
    )


def settings_of(card: str) -> VllmSettings:
    """The flags of the card's profile."""
    from controller.experiment.profile import load_profile

    return parse_flags(dict(load_profile(ROOT / f"examples/profiles/{card}.yaml").engine.flags))


def tables() -> str:
    lines = [
        "| base | on disk, GB | training, GiB | slots of adapters, GiB | keys and values, KiB a token |",
        "|---|---|---|---|---|",
    ]
    for name in MODELS:
        plan = generation(name, CARDS["h200"], settings_of("h200"))
        adapters = plan.slots * plan.adapter_slot / GIB
        needed = training(name).total(TOKENS) / GIB
        lines.append(
            f"| {name} | {weights(name) / 1e9:.1f} | {needed:.1f} | {adapters:.2f} | {plan.kv_token / 1024:.0f} |"
        )
    lines += ["", "| base | " + " | ".join(CARDS) + " |", "|---" * (len(CARDS) + 1) + "|"]
    for name in MODELS:
        lines.append(f"| {name} | " + " | ".join(cell(name, card) for card in CARDS) + " |")
    return "\n".join(lines) + "\n"


def cell(name: str, card: str) -> str:
    """Whether it trains, and how many requests of full length the engine holds at a time."""
    trains = largest_micro_batch(training(name), CARDS[card] * MIB) >= TOKENS
    rows = generation(name, CARDS[card], settings_of(card)).full_length_rows
    if not trains and not rows:
        return "no"
    return f"{'trains' if trains else 'does not train'}, {rows or 'no'} requests"


if __name__ == "__main__":
    print(tables(), end="")
