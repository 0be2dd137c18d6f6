"""Adapters made with plain peft on small random bases, and how each is read here.

`python -m tests.evaluate.peft_adapters` prints the table: accepted with the largest difference between the logits of
the model as peft trained it and as it is evaluated, or refused with the reason.
"""

import json
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftModel,
    VeraConfig,
    get_peft_model,
    initialize_lora_eva_weights,
)  # fmt: skip
from peft.tuners.lora.config import (
    BdLoraConfig,
    CordaConfig,
    EvaConfig,
    KasaConfig,
    LoraGAConfig,
    MontecloraConfig,
    VeloraConfig,
)
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from tests.evaluate.models import write_dense, write_moe
from workloads.engines.base import BadAdapter
from workloads.engines.transformers.adapter_merge import MergedAdapter
from workloads.models.adapters import check_adapter
from workloads.models.shapes import read_shapes

TOKENS = torch.tensor([[7, 31, 200, 64, 5, 99, 142, 18]])
QV = ("q_proj", "v_proj")


@dataclass(frozen=True)
class Case:
    """`words`: a part of the refusal's message; None if the adapter must be accepted and compute the same as peft."""

    name: str
    config: Any
    words: str | None = None
    moe: bool = False
    prepare: Callable[[Any, Any], None] | None = None
    started: Callable[[Any], None] | None = None
    convert: bool = False


def lora(**changes: Any) -> LoraConfig:
    stated: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": list(QV), "task_type": "CAUSAL_LM"}
    return LoraConfig(**stated | changes)


def corda(model: Any, config: Any) -> None:
    preprocess_corda(model, config, run_model=lambda: model(TOKENS))


def lora_ga(model: Any, config: Any) -> None:
    def step() -> None:
        model(TOKENS, labels=TOKENS).loss.backward()

    preprocess_loraga(model, config, step)


def eva(model: Any) -> None:
    initialize_lora_eva_weights(model, [{"input_ids": TOKENS}] * 4)


CONVERT = "path_initial_model_for_weight_conversion"

CASES = (
    Case("plain", lora()),
    Case("all-linear", lora(target_modules="all-linear")),
    Case("target_modules as a regular expression", lora(target_modules=r".*\.self_attn\.[qk]_proj")),
    Case("all-linear without up_proj", lora(target_modules="all-linear", exclude_modules=["up_proj"])),
    Case("rank 1, alpha 3.5", lora(r=1, lora_alpha=3.5)),
    Case("dropout", lora(lora_dropout=0.5)),
    Case("rsLoRA", lora(use_rslora=True)),
    Case("rsLoRA on all layers", lora(use_rslora=True, target_modules="all-linear", r=16)),
    Case("init_lora_weights false", lora(init_lora_weights=False)),
    Case("gaussian", lora(init_lora_weights="gaussian")),
    Case("orthogonal", lora(init_lora_weights="orthogonal")),
    Case("EVA", lora(init_lora_weights="eva", eva_config=EvaConfig(rho=1.0)), started=eva),
    Case("MiCA", lora(init_lora_weights="mica")),
    Case("attention of a mixture of experts", lora(), moe=True),
    Case("PiSSA", lora(init_lora_weights="pissa"), CONVERT),
    Case("PiSSA by iteration", lora(init_lora_weights="pissa_niter_4"), CONVERT),
    Case("PiSSA, converted", lora(init_lora_weights="pissa"), convert=True),
    Case("PiSSA with rsLoRA, converted", lora(init_lora_weights="pissa", use_rslora=True), convert=True),
    Case("OLoRA", lora(init_lora_weights="olora"), CONVERT),
    Case("OLoRA, converted", lora(init_lora_weights="olora"), convert=True),
    Case("CorDA", lora(init_lora_weights="corda", corda_config=CordaConfig()), CONVERT, prepare=corda),
    Case("CorDA, converted", lora(init_lora_weights="corda", corda_config=CordaConfig()), prepare=corda, convert=True),
    Case("LoRA-GA", lora(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(scale="weight_svd")), CONVERT, prepare=lora_ga),
    Case("LoRA-GA, converted", lora(init_lora_weights="lora_ga", lora_ga_config=LoraGAConfig(scale="weight_svd")), prepare=lora_ga, convert=True),
    Case("DoRA", lora(use_dora=True), "use_dora is true"),
    Case("aLoRA", lora(alora_invocation_tokens=[64, 5]), "alora_invocation_tokens"),
    Case("KaSA", lora(kasa_config=KasaConfig()), "kasa_config"),
    Case("MonteCLoRA", lora(monteclora_config=MontecloraConfig()), "monteclora_config"),
    Case("VeLoRA", lora(velora_config=VeloraConfig(num_groups=8)), "velora_config"),
    Case("BD-LoRA", lora(use_bdlora=BdLoraConfig(target_modules_bd_a=["q_proj"], nblocks=2, match_strict=False)), "use_bdlora"),
    Case("another rank for q_proj", lora(rank_pattern={"q_proj": 4}), "rank_pattern"),
    Case("another alpha for q_proj", lora(alpha_pattern={"q_proj": 4}), "alpha_pattern"),
    Case("bias of LoRA", lora(lora_bias=True), "lora_bias"),
    Case("bias of the layers", lora(bias="lora_only"), "bias is"),
    Case("head saved whole", lora(modules_to_save=["lm_head"]), "modules_to_save"),
    Case("tokens trained", lora(trainable_token_indices=[3, 5]), "trainable_token_indices"),
    Case("layers repeated", lora(layer_replication=[(0, 1), (1, 2)]), "layer_replication"),
    Case("one layer only", lora(layers_to_transform=[1]), "is changed in 1 of 3 places"),
    Case("the head", lora(target_modules=["q_proj", "lm_head"]), "the base's own weight"),
    Case("embeddings", lora(target_modules=["q_proj", "embed_tokens"]), "the base's own weight"),
    Case("experts as parameters", lora(target_modules=[], target_parameters=["mlp.experts.gate_up_proj"]), "no linear layer", moe=True),
    Case("AdaLoRA", AdaLoraConfig(target_modules=list(QV), task_type="CAUSAL_LM", total_step=10), "peft_type"),
    Case("LoHa", LoHaConfig(target_modules=list(QV), task_type="CAUSAL_LM"), "peft_type"),
    Case("IA3", IA3Config(target_modules=list(QV), feedforward_modules=[], task_type="CAUSAL_LM"), "peft_type"),
    Case("VeRA", VeraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM", r=8), "peft_type"),
)  # fmt: skip


def fresh(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def make(case: Case, base: Path, folder: Path) -> tuple[Path, Tensor]:
    """Trains the case's adapter for two steps and saves it with peft.

    Returns (its directory, the trained model's logits).
    """
    torch.manual_seed(0)
    model = fresh(base)
    if case.prepare is not None:
        case.prepare(model, case.config)
    trained: PeftModel = get_peft_model(model, case.config)
    if case.started is not None:
        case.started(trained)
    if case.convert:
        trained.save_pretrained(str(folder / "initial"))
        rename_init(folder / "initial")
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.3)
    trained.train()
    for _ in range(2):
        optimizer.zero_grad()
        trained(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
    trained.eval()
    with torch.no_grad():
        logits = trained(input_ids=TOKENS).logits
    extra: dict[str, Any] = {}
    if case.convert:
        extra["path_initial_model_for_weight_conversion"] = str(folder / "initial")
    trained.save_pretrained(str(folder / "adapter"), **extra)
    return folder / "adapter", logits


def rename_init(directory: Path) -> None:
    """Follows peft's guide: the initial adapter must be saved with init_lora_weights true."""
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"init_lora_weights": True}))


def evaluated(base: Path, directory: Path) -> Tensor:
    """The logits as the transformers engine computes them. Raises BadAdapter."""
    shapes = read_shapes(base)
    adapter = check_adapter("theirs", directory, shapes)
    model = fresh(base)
    MergedAdapter(model, shapes).merge(adapter)
    with torch.no_grad():
        logits: Tensor = model(TOKENS).logits
    return logits


def outcomes(folder: Path, cases: tuple[Case, ...] = CASES) -> Iterator[tuple[Case, float | str]]:
    """Per case: the largest difference of a logit, or the refusal."""
    bases = {False: write_dense(folder / "dense"), True: write_moe(folder / "moe")}
    for number, case in enumerate(cases):
        base = bases[case.moe]
        directory, trained = make(case, base, folder / str(number))
        try:
            yield case, float((evaluated(base, directory) - trained).abs().max())
        except BadAdapter as error:
            yield case, str(error)


def main() -> None:
    warnings.simplefilter("ignore")
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        for case, found in outcomes(Path(folder)):
            said = f"accepted, {found:.1e} from peft" if isinstance(found, float) else f"refused: {found[:110]}"
            sys.stdout.write(f"{case.name:38} {said}\n")


if __name__ == "__main__":
    main()
