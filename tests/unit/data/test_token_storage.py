"""How the ids of tokens are stored."""

import datasets
import pytest

from hf_nar.data.corpus import tokenize_corpus


@pytest.mark.parametrize(("size", "kind"), [(2**16, "uint16"), (2**16 + 1, "int32")])
def test_ids_take_two_bytes_where_these_hold_the_largest(tiny_tokenizer, size, kind):
    new = [f"<{i}>" for i in range(size - len(tiny_tokenizer))]
    tiny_tokenizer.add_tokens(new)
    pairs = datasets.Dataset.from_dict({"source": [new[-1]], "target": ["a"]})

    examples = tokenize_corpus(pairs, tiny_tokenizer, 9, 9).examples

    assert examples.features["input_ids"].feature.dtype == kind
    assert size - 1 in examples[0]["input_ids"]
