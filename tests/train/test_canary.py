import pytest
import torch

from tests.train.kernels.models import randomise_adapter, small_moe
from workloads.train.canary import log_probs
from workloads.train.packed import pack
from workloads.train.patch import add_lora, per_document_hidden_states

SEQUENCES = [tuple(range(1, 20)), (5, 3), tuple(range(40, 4, -3)), (9, 9, 9, 9)]


@pytest.mark.parametrize("trained", [False, True])
def test_canaries_in_one_batch_have_the_log_probabilities_of_each_alone(trained: bool) -> None:
    model = small_moe()
    if trained:
        add_lora(model, rank=4, alpha=4.0, target=("attention", "experts"))
        randomise_adapter(model)
    for ids, found in zip(SEQUENCES, log_probs(model, SEQUENCES), strict=True):
        with torch.no_grad():
            rows = per_document_hidden_states(model, pack([(list(ids), [False] * len(ids))]))
            logits = model.get_output_embeddings()(rows)
        expected = logits[:-1].log_softmax(-1)[range(len(ids) - 1), list(ids[1:])]
        torch.testing.assert_close(torch.tensor(found), expected, rtol=1e-4, atol=1e-5)
