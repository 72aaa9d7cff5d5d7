"""Writes tests/interchange/references/: tiny random models of transformers with their outputs.

    .venv-parity/bin/python -m tests.interchange.make_references [NAME …]

Each folder holds config.json, the weights, and expected.npz with ids, types, mask, hidden [L + 1, B, T, D] and each head's logits.
`make test` compares with them and needs no torch; `make parity` compares with transformers itself.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from tests.parity.peers import inputs, their_model, theirs, torch

REFERENCES = Path(__file__).parent / 'references'
TINY = {'vocab_size': 32, 'hidden_size': 8, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 12}
BERT = TINY | {'max_position_embeddings': 16}
DISTIL = {'vocab_size': 32, 'dim': 8, 'n_layers': 2, 'n_heads': 2, 'hidden_dim': 12, 'max_position_embeddings': 16}
ALBERT = BERT | {'embedding_size': 6}
LABELS = {'id2label': {0: 'bad', 1: 'fine', 2: 'good'}}
SMALL = {'Bert': BERT | {'num_hidden_layers': 1}, 'DistilBert': DISTIL | {'n_layers': 1}, 'Albert': ALBERT}

CASES = {
    **{f'{prefix}Model': (prefix, 'Model', config) for prefix, config in SMALL.items()},
    **{f'{prefix}Label': (prefix, 'ForSequenceClassification', config | LABELS) for prefix, config in SMALL.items()},
    **{f'{prefix}Span': (prefix, 'ForQuestionAnswering', config) for prefix, config in SMALL.items()},
    **{f'{prefix}Choice': (prefix, 'ForMultipleChoice', config) for prefix, config in SMALL.items()},
    'BertPretraining': ('Bert', 'ForPreTraining', BERT),
    'AlbertPretraining': ('Albert', 'ForPreTraining', ALBERT),
    'DistilBertMlm': ('DistilBert', 'ForMaskedLM', DISTIL),
    'DistilBertSinusoidal': (
        'DistilBert',
        'ForMaskedLM',
        SMALL['DistilBert'] | {'sinusoidal_pos_embds': True, 'activation': 'relu'},
    ),
    'AlbertInner': ('Albert', 'ForMaskedLM', ALBERT | {'inner_group_num': 2, 'num_hidden_groups': 2, 'embedding_size': 8}),
    'MegatronBertPretraining': ('MegatronBert', 'ForPreTraining', BERT | {'hidden_act': 'gelu_new'}),
    'MegatronBertLabel': ('MegatronBert', 'ForSequenceClassification', SMALL['Bert'] | LABELS),
    'RoFormerMlm': ('RoFormer', 'ForMaskedLM', BERT | {'embedding_size': 6}),
    'RoFormerModel': ('RoFormer', 'Model', SMALL['Bert']),
    'BertBin': ('Bert', 'ForMaskedLM', SMALL['Bert']),
    'BertLegacyBin': ('Bert', 'ForMaskedLM', SMALL['Bert'] | {'hidden_act': 'gelu_new'}),
}


def main(*names: str) -> None:
    """Writes the folders of these cases anew; without names all of them, and no others stay."""
    if not names:
        shutil.rmtree(REFERENCES, ignore_errors=True)
    for name in names or CASES:
        prefix, head, config = CASES[name]
        folder = REFERENCES / name
        shutil.rmtree(folder, ignore_errors=True)
        model = their_model(prefix, head, config)
        model.save_pretrained(folder)
        if name.endswith('Bin'):
            state = {key: x for key, x in model.state_dict().items() if 'decoder' not in key}
            torch.save(state, folder / 'pytorch_model.bin', _use_new_zipfile_serialization=name == 'BertBin')
            (folder / 'model.safetensors').unlink()
        given = inputs(32, 2, length=8, rows=2)
        hidden, logits = theirs(model, *given, choices=head == 'ForMultipleChoice')
        ids, types, mask = given
        np.savez_compressed(folder / 'expected.npz', ids=ids, types=types, mask=mask, hidden=hidden, **logits)


if __name__ == '__main__':
    main(*sys.argv[1:])
