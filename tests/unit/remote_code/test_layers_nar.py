import pytest
import torch
from tiny_networks import EOS, PAD, VOCABULARY, batch_of, labels_of, new_model
from tiny_refinement import new_refinement_model
from transformers.masking_utils import create_bidirectional_mask

from hf_nar.remote_code.layers_nar import Attention, hide_padding

RAGGED, EVEN = (4, 9, 6), (7, 7, 7)

each_implementation = pytest.mark.parametrize("implementation", ["eager", "sdpa"])


def attention_of(implementation, is_cross=False):
    model = new_model()
    model.set_attn_implementation(implementation)
    torch.manual_seed(0)
    return Attention(model.config, is_cross).eval()


@each_implementation
@pytest.mark.parametrize("lengths", [RAGGED, EVEN])
def test_a_mask_made_without_looking_hides_what_the_librarys_hides(implementation, lengths):
    attention = attention_of(implementation)
    mask = batch_of(*lengths) != PAD
    hidden = torch.randn(*mask.shape, 16)

    ours = hide_padding(attention.config, hidden, mask, may_look=False)

    theirs = create_bidirectional_mask(attention.config, hidden, mask)
    torch.testing.assert_close(attention(hidden, ours)[0], attention(hidden, theirs)[0])
    assert ours is not None


@each_implementation
def test_a_mask_of_a_memory_is_as_wide_as_the_memory(implementation):
    attention = attention_of(implementation, is_cross=True)
    mask = batch_of(*RAGGED) != PAD
    queries, memory = torch.randn(3, 5, 16), torch.randn(*mask.shape, 16)
    projected = attention.project_memory(memory)

    ours = hide_padding(attention.config, queries, mask, memory, may_look=False)

    theirs = create_bidirectional_mask(attention.config, queries, mask, memory)
    assert ours.shape == (3, 1, 5, 9)
    expected, _ = attention(queries, theirs, projected)
    torch.testing.assert_close(attention(queries, ours, projected)[0], expected)


@each_implementation
def test_a_mask_that_hides_nothing_is_left_out_where_one_may_look(implementation):
    config = attention_of(implementation).config
    hidden = torch.randn(3, 7, 16)

    assert hide_padding(config, hidden, batch_of(*EVEN) != PAD, may_look=True) is None


def test_special_tokens_and_words_share_out_the_vocabulary():
    model = new_refinement_model(unk_token_id=VOCABULARY - 1, bos_token_id=EOS, mask_token_id=None)
    everything = torch.arange(VOCABULARY)

    words = model.word_ids(everything.device)

    assert everything[model.is_special(everything)].tolist() == model.special_ids
    assert set(model.special_ids) == {PAD, EOS, VOCABULARY - 1}
    assert words.tolist() == everything[~model.is_special(everything)].tolist()


@pytest.mark.parametrize("axis", ["source", "target"])
def test_labels_wider_than_the_longest_have_the_same_loss(axis):
    model = new_model(latent_axis=axis)
    source, labels = batch_of(*RAGGED), labels_of(7, 5, 8)
    wide = torch.nn.functional.pad(labels, (0, 3), value=-100)

    losses = [model(input_ids=source, labels=target).loss for target in (labels, wide)]

    torch.testing.assert_close(*losses)
