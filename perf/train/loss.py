"""Times the general trainer's loss of one micro-batch and that of transformers: `python -m perf.train.loss [--tiny]`.

Random logits of 4 documents of 4096 tokens, 151,936 tokens in the vocabulary, every token supervised. Prints the median
milliseconds of forward and backward together and of the forward alone, and the peak of the allocated GiB, logits
included. `--tiny`: small logits on any device, to try the program.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from workloads.train.general.loss import summed_cross_entropy

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REPEATS = 5


def general(logits: Tensor, ids: Tensor, documents: Tensor, positions: Tensor) -> Tensor:
    """As GeneralTrainer.loss_sum; logits: (D, W, V), ids: (D, W), places of the supervised rows: (S,) each."""
    rows = documents * logits.shape[1] + positions
    return summed_cross_entropy(logits, rows, ids[documents, positions + 1])


def transformers(logits: Tensor, ids: Tensor) -> Tensor:
    """As ForCausalLMLoss of transformers: all rows in float32, the last of each document left out."""
    labels = functional.pad(ids, (0, 1), value=-100)[:, 1:].reshape(-1)
    return functional.cross_entropy(logits.float().flatten(0, 1), labels, ignore_index=-100, reduction="sum")


def wait_for_device() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def measure(name: str, loss_of: Callable[[], Tensor], logits: Tensor) -> None:
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    forward, both, summed = [], [], 0.0
    for _ in range(REPEATS + 1):
        wait_for_device()
        began = time.perf_counter()
        loss = loss_of()
        wait_for_device()
        forward.append(time.perf_counter() - began)
        torch.autograd.grad(loss / 65_536, logits)
        wait_for_device()
        both.append(time.perf_counter() - began)
        summed = loss.item()
        del loss
    peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
    milliseconds = f"{median(both[1:]) * 1e3:8.1f} ms, forward {median(forward[1:]) * 1e3:8.1f} ms"
    print(f"{name:14} {milliseconds}, peak {peak:6.1f} GiB, loss {summed!r}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    documents, tokens, vocabulary = (2, 16, 100) if parser.parse_args().tiny else (4, 4096, 151_936)
    torch.manual_seed(0)
    logits = torch.randn(documents, tokens, vocabulary, device=DEVICE, dtype=torch.bfloat16).requires_grad_()
    ids = torch.randint(0, vocabulary, (documents, tokens), device=DEVICE)
    places = torch.ones_like(ids[:, 1:]).nonzero(as_tuple=True)
    measure("general", lambda: general(logits, ids, *places), logits)
    measure("transformers", lambda: transformers(logits, ids), logits)


if __name__ == "__main__":
    main()
