import torch

from hf_nar.remote_code.losses_nar import (
    budgeted_kl_sum,
    length_loss_sum,
    replace_words,
    word_loss_sum,
)


def test_word_loss_is_the_smoothed_cross_entropy_of_real_tokens_only():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 4, -100], [2, -100, -100]])

    loss = word_loss_sum(logits, labels, label_smoothing=0.2)

    expected = 0.0
    for row, position in [(0, 0), (0, 1), (1, 0)]:
        log_probs = logits[row, position].log_softmax(-1)
        expected -= 0.8 * log_probs[labels[row, position]] + 0.2 * log_probs.mean()
    torch.testing.assert_close(loss, torch.as_tensor(expected))


def test_kl_below_the_budget_counts_as_the_budget_and_has_no_gradient():
    kl = torch.tensor([[0.4, 3.0, 7.0]], requires_grad=True)
    source_mask = torch.tensor([[True, True, False]])

    loss = budgeted_kl_sum(kl, source_mask, kl_budget=1.0)
    loss.backward()

    assert loss.item() == 4.0
    assert kl.grad.tolist() == [[0.0, 1.0, 0.0]]


def test_a_budget_of_zero_penalises_everything():
    kl = torch.tensor([[0.4, 3.0]], requires_grad=True)

    budgeted_kl_sum(kl, torch.tensor([[True, True]]), kl_budget=0.0).backward()

    assert kl.grad.tolist() == [[1.0, 1.0]]


def test_length_loss_is_summed_over_sentences():
    logits = torch.zeros(3, 4)

    loss = length_loss_sum(logits, torch.tensor([0, 1, 2]))

    torch.testing.assert_close(loss, 3 * torch.tensor(4.0).log())


def test_replaced_words_are_words_of_the_batch_and_about_as_many_as_asked_for():
    tokens = torch.arange(1, 4001).view(200, 20)
    is_word = tokens % 4 != 0

    replaced = replace_words(tokens, is_word, share=0.4)

    changed = replaced != tokens
    assert not changed[~is_word].any()
    assert (replaced[changed] % 4 != 0).all()
    share = changed.sum().item() / is_word.sum().item()
    assert abs(share - 0.4 * 0.75) < 0.03  # a draw of 4 is no word


def test_without_noise_nothing_is_replaced():
    tokens = torch.arange(20).view(2, 10)

    assert replace_words(tokens, tokens > 0, share=0.0) is tokens
