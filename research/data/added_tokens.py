"""The added tokens of a tokenizer: markers, which are special and yet no role's, and their flags."""

from typing import Any

from tokenizers import AddedToken, Tokenizer

from research.data.tokenizer_json import SPECIAL
from research.records import parse_json

FLAGS = ('single_word', 'lstrip', 'rstrip', 'normalized', 'special')


def describe_rules(tokenizer: Tokenizer) -> dict[str, Any]:
    """The tokenizer.json of a tokenizer, as an object."""
    return parse_json(tokenizer.to_str(), 'the tokenizer')


def list_markers(rules: dict[str, Any]) -> list[str]:
    """The added special tokens of a tokenizer.json that are no role's, such as [E1], in the order of their ids.

    In a tokenizer of ours they are not marked as special, but named in its template: see `tokenizers.finish_tokenizer`.
    """
    roles = {name for names in SPECIAL.values() for name in names}
    template = rules['post_processor'] or {}
    kept = template['special_tokens'] if 'type' in template and template['type'] == 'TemplateProcessing' else {}
    added = [(token['content'], token['special']) for token in rules['added_tokens']]
    return [name for name, special in added if name not in roles and (special or name in kept)]


def with_flags(tokenizer: Tokenizer, flags: dict[str, dict[str, bool]]) -> Tokenizer:
    """A copy of a tokenizer with other flags of some added tokens: {token: {flag: value}}."""
    copy = Tokenizer(tokenizer.model)  # one by way of JSON would round the scores of a unigram model
    for part in ('normalizer', 'pre_tokenizer', 'post_processor', 'decoder'):
        setattr(copy, part, getattr(tokenizer, part))
    added = []
    for _, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        own = {name: getattr(token, name) for name in FLAGS}
        added.append(AddedToken(token.content, **(own | flags[token.content] if token.content in flags else own)))
    copy.add_tokens(added)
    copy.encode_special_tokens = tokenizer.encode_special_tokens
    return copy
