"""transformers' own tests of models on our families; runs beside a copy of these tests.

`test_library_suite.py` copies this file to where they lie, so that it can import them.
"""

from __future__ import annotations

import unittest

import torch
from library_tests.test_modeling_common import ModelTesterMixin
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from hf_nar.auto import MODEL_CLASSES, register
from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration

register()
for config_class, model_class in MODEL_CLASSES.items():  # by name the tests know what takes labels
    MODEL_MAPPING_NAMES[config_class.model_type] = model_class.__name__
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES[config_class.model_type] = model_class.__name__

SHAPE = {
    "vocab_size": 99,
    "d_model": 32,
    "d_ff": 37,
    "num_attention_heads": 4,
    "max_position_embeddings": 30,
    "max_target_length": 30,
    "max_length_offset": 5,
    "dropout": 0.1,
    "label_smoothing": 0.0,  # a loss is compared with plain cross-entropy
}


class Sizes:
    """What the library's tests ask of the one who makes their models."""

    batch_size = 5
    seq_length = encoder_seq_length = decoder_seq_length = key_length = 7
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    num_hidden_states_types = 2  # of encoder and decoder
    is_training = True

    def __init__(self, config_class, **layers):
        self.config_class = config_class
        self.layers = layers

    def get_config(self):
        return self.config_class(**SHAPE, **self.layers)

    def prepare_config_and_inputs_for_common(self):
        shape = (self.batch_size, self.seq_length)
        ids = torch.randint(5, SHAPE["vocab_size"], shape)
        ids[:, -1] = 2
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return self.get_config(), {**inputs, "decoder_input_ids": ids.flip(0).clone()}  # a draft


class FamilyTests(ModelTesterMixin):
    all_generative_model_classes = ()  # they decode from left to right


class TestLaNMT(FamilyTests, unittest.TestCase):
    all_model_classes = (LaNMTForConditionalGeneration,)

    def setUp(self):
        layers = ("prior", "target", "posterior", "decoder")
        self.model_tester = Sizes(LaNMTConfig, **{f"num_{name}_layers": 2 for name in layers})


class TestRefinementNAR(FamilyTests, unittest.TestCase):
    all_model_classes = (RefinementNARForConditionalGeneration,)

    def setUp(self):
        layers = {"num_encoder_layers": 2, "num_decoder_layers": 2}
        self.model_tester = Sizes(RefinementNARConfig, **layers)
