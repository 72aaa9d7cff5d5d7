"""Writes the tokenizer of a Hugging Face folder: a tokenizer.json and the configs beside it."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from research.data.added_tokens import describe_rules, list_markers, with_flags
from research.data.tokenizer_files import BERT_RULES
from research.data.tokenizers import vocabulary_of
from research.records import write_record


def write_tokenizer(tokenizer: Tokenizer, folder: Path, positions: int, types: bool = True) -> None:
    """Writes tokenizer.json and the tokenizer_config.json with which transformers' AutoTokenizer gives the same ids.

    types: whether the model has token types.
    """
    rules = describe_rules(tokenizer)
    markers = list_markers(rules)
    with_flags(tokenizer, {name: {'special': True} for name in markers}).save(str(folder / 'tokenizer.json'))
    roles = {'pad': 'pad_token', 'unknown': 'unk_token', 'cls': 'cls_token', 'sep': 'sep_token', 'mask': 'mask_token'}
    pieces = vocabulary_of(tokenizer)
    config: dict[str, Any] = {name: tokenizer.id_to_token(getattr(pieces, role)) for role, name in roles.items()}
    config |= {'model_max_length': positions, 'padding_side': 'right', 'clean_up_tokenization_spaces': False}
    config['model_input_names'] = ['input_ids', *(['token_type_ids'] if types else []), 'attention_mask']
    normalizer = rules['normalizer']
    if rules['model']['type'] == 'WordPiece' and normalizer is not None and normalizer['type'] == 'BertNormalizer':
        config |= {given: normalizer[name] for given, name in BERT_RULES.items()}
        config['tokenizer_class'] = 'BertTokenizer'
    else:
        config['tokenizer_class'] = 'PreTrainedTokenizerFast'
    special = {name: config[name] for name in roles.values()}
    if markers:
        special['additional_special_tokens'] = config['additional_special_tokens'] = markers
    write_record(folder / 'tokenizer_config.json', config)
    write_record(folder / 'special_tokens_map.json', special)
