import torch

from anygrain.models.presence import PresenceHead


def test_the_mask_is_evidence_but_not_taught():
    torch.manual_seed(0)
    head = PresenceHead(8, 4)
    query, embedding = torch.randn(2, 8, requires_grad=True), torch.rand(2, 4, 5, 6, requires_grad=True)
    logits = torch.randn(2, 5, 6, requires_grad=True)
    answer = head(query, embedding, logits)
    assert answer.shape == (2,)
    assert (head(query, embedding, logits + 1) - answer).abs().min() > 1e-4
    assert (head(query, embedding * 2, logits) - answer).abs().min() > 1e-4
    answer.sum().backward()
    assert query.grad.abs().max() > 0
    assert logits.grad is None
    assert embedding.grad is None


def test_an_empty_mask_is_finite():
    head = PresenceHead(8, 4)
    assert head(torch.randn(1, 8), torch.rand(1, 4, 5, 6), torch.full((1, 5, 6), -200.0)).isfinite().all()
