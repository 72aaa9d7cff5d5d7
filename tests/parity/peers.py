"""The outputs of transformers for the same model and the same input."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from research.interchange.tensor_names import flatten
from research.models.heads import Model

REASON = 'run with `make parity`, which installs torch and transformers'
torch = pytest.importorskip('torch', reason=REASON)
transformers = pytest.importorskip('transformers', reason=REASON)

SHAPE = {'vocab_size': 96, 'hidden_size': 32, 'num_hidden_layers': 2, 'num_attention_heads': 4, 'intermediate_size': 48}
DISTIL = {'vocab_size': 96, 'dim': 32, 'n_layers': 2, 'n_heads': 4, 'hidden_dim': 48}
ALBERT = SHAPE | {'embedding_size': 16}
BASES = {'Bert': SHAPE, 'DistilBert': DISTIL, 'Albert': ALBERT, 'MegatronBert': SHAPE, 'RoFormer': SHAPE}


def their_model(prefix, head, config, seed=0):
    """A model of transformers with random parameters, biases and norms included, each large enough to change the outputs."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = getattr(transformers, prefix + head)(getattr(transformers, f'{prefix}Config')(**config)).eval()
    with torch.no_grad():
        for name, x in model.named_parameters():
            fixed = getattr(model.config, 'sinusoidal_pos_embds', False) and 'position_embeddings' in name
            if not fixed and 'embed_positions' not in name:
                mean = 1.0 if ('norm' in name.lower() or name.endswith('ln.weight')) and 'weight' in name else 0.0
                x.copy_(mean + torch.randn_like(x) * (0.1 if x.dim() == 1 else x.shape[1] ** -0.5))
    return model


def inputs(vocabulary, types, length=17, rows=3, seed=0):
    """Ids, types and mask [rows, length], each row of another length."""
    generator = np.random.default_rng(seed)
    ids = generator.integers(5, vocabulary, (rows, length)).astype(np.int32)
    lengths = np.linspace(length, max(length // 3, 1), rows).astype(int)
    mask = (np.arange(length)[None] < lengths[:, None]).astype(np.int32)
    kinds = (generator.integers(0, max(types, 1), (rows, length)) * mask).astype(np.int32)
    return ids * mask, kinds, mask


def theirs(model, ids, types, mask, choices=False):
    """(hidden states [L + 1, B, T, D], logits by head) of a model of transformers."""
    given = {'input_ids': ids, 'attention_mask': mask, 'token_type_ids': types}
    if model.config.model_type == 'distilbert':
        given.pop('token_type_ids')
    given = {name: torch.from_numpy(x.astype(np.int64)) for name, x in given.items()}
    if choices:
        given = {name: x[None] for name, x in given.items()}
    with torch.no_grad():
        out = model(**given, output_hidden_states=True)
    names = type(model).__name__
    if 'start_logits' in out:
        logits = {'span': torch.stack([out.start_logits, out.end_logits], -1)}
    elif 'prediction_logits' in out:
        logits = {'mlm': out.prediction_logits, 'pair': out['sop_logits' if 'sop_logits' in out else 'seq_relationship_logits']}
    elif 'logits' in out:
        head = {'MaskedLM': 'mlm', 'SequenceClassification': 'label', 'MultipleChoice': 'choice', 'NextSentencePrediction': 'pair'}
        logits = {head[names.rpartition('For')[2]]: out.logits.T if choices else out.logits}
    else:
        logits = {'pooled': out.pooler_output} if getattr(out, 'pooler_output', None) is not None else {}
    return np.stack([x.numpy() for x in out.hidden_states]), {head: x.numpy() for head, x in logits.items()}


def ours(donor, ids, types, mask):
    """(hidden states, logits by head) of a donor."""
    model = Model(dataclasses.replace(donor.architecture, unroll=1), donor.heads)

    def forward(params, ids, types, mask):
        out: Any = model.apply({'params': params}, ids, types, mask, frozenset({'layers'}))
        logits = {name: model.apply({'params': params}, name, out, method='logits') for name, _ in donor.heads}
        return out.layers, logits if donor.heads or out.pooled is None else {'pooled': out.pooled}

    layers, logits = jax.jit(forward)(donor.params, ids, types, mask)
    return np.asarray(layers), {name: np.asarray(x) for name, x in logits.items()}


def assert_same(model, donor, given, tolerance, choices=False, relative=0.0):
    """Asserts that both compute the same hidden states and logits."""
    states, logits = theirs(model, *given, choices=choices)
    our_states, our_logits = ours(donor, *given)
    assert our_states.shape == states.shape
    np.testing.assert_allclose(our_states, states, rtol=relative, atol=tolerance)
    assert set(our_logits) == set(logits)
    for head, x in logits.items():
        np.testing.assert_allclose(our_logits[head], x, rtol=relative, atol=tolerance, err_msg=head)


def load(class_name, folder):
    """The export, loaded by transformers without missing or unexpected tensors."""
    model, loading = getattr(transformers, class_name).from_pretrained(folder, output_loading_info=True)
    assert not any(loading[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys', 'error_msgs')), loading
    return model.eval()


def same_bytes(a, b):
    """Whether two trees hold the same arrays, bit for bit."""
    a, b = flatten(a), flatten(b)
    return a.keys() == b.keys() and all(a[path].tobytes() == b[path].tobytes() for path in a)
