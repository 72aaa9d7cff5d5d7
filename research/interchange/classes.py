"""The classes of Hugging Face that we read and write: their fields, and their heads."""

from typing import Any

# Field of an Architecture -> the field of config.json and its default in the Hugging Face class.
FIELDS: dict[str, dict[str, tuple[str, Any]]] = {
    'bert': {
        'vocabulary': ('vocab_size', 30522),
        'layers': ('num_hidden_layers', 12),
        'width': ('hidden_size', 768),
        'heads': ('num_attention_heads', 12),
        'inner': ('intermediate_size', 3072),
        'positions': ('max_position_embeddings', 512),
        'types': ('type_vocab_size', 2),
        'activation': ('hidden_act', 'gelu'),
        'dropout': ('hidden_dropout_prob', 0.1),
        'attention_dropout': ('attention_probs_dropout_prob', 0.1),
        'epsilon': ('layer_norm_eps', 1e-12),
        'deviation': ('initializer_range', 0.02),
    },
    'distilbert': {
        'vocabulary': ('vocab_size', 30522),
        'layers': ('n_layers', 6),
        'width': ('dim', 768),
        'heads': ('n_heads', 12),
        'inner': ('hidden_dim', 3072),
        'positions': ('max_position_embeddings', 512),
        'activation': ('activation', 'gelu'),
        'dropout': ('dropout', 0.1),
        'attention_dropout': ('attention_dropout', 0.1),
        'head_dropout': ('seq_classif_dropout', 0.2),
        'span_dropout': ('qa_dropout', 0.1),
        'deviation': ('initializer_range', 0.02),
    },
    'albert': {
        'vocabulary': ('vocab_size', 30000),
        'layers': ('num_hidden_layers', 12),  # each is `inner_group_num` of our layers
        'width': ('hidden_size', 4096),
        'heads': ('num_attention_heads', 64),
        'inner': ('intermediate_size', 16384),
        'embedding': ('embedding_size', 128),
        'positions': ('max_position_embeddings', 512),
        'types': ('type_vocab_size', 2),
        'activation': ('hidden_act', 'gelu_new'),
        'dropout': ('hidden_dropout_prob', 0.0),
        'attention_dropout': ('attention_probs_dropout_prob', 0.0),
        'head_dropout': ('classifier_dropout_prob', 0.1),
        'epsilon': ('layer_norm_eps', 1e-12),
        'deviation': ('initializer_range', 0.02),
    },
}
# MegatronBert is BERT with pre-LN (Shoeybi et al. 2019), RoFormer BERT with rotary positions (Su et al. 2021).
FIELDS |= {
    'megatron-bert': FIELDS['bert']
    | {
        'vocabulary': ('vocab_size', 29056),
        'layers': ('num_hidden_layers', 24),
        'width': ('hidden_size', 1024),
        'heads': ('num_attention_heads', 16),
        'inner': ('intermediate_size', 4096),
    },
    'roformer': FIELDS['bert']
    | {
        'vocabulary': ('vocab_size', 50000),
        'embedding': ('embedding_size', 0),  # 0: the width
        'positions': ('max_position_embeddings', 1536),
    },
}
# Other names of fields that the classes accept.
SYNONYMS = {'distilbert': {'dim': 'hidden_size', 'n_heads': 'num_attention_heads', 'n_layers': 'num_hidden_layers'}}
# Fields that change the result -> the only supported value.
ONLY: dict[str, Any] = {
    'position_embedding_type': 'absolute',
    'is_decoder': False,
    'add_cross_attention': False,
    'pruned_heads': {},
    'quantization_config': None,
    'down_scale_factor': 1,
    'gap_size': 0,
    'net_structure_type': 0,
    'num_memory_blocks': 0,
    'layers_to_keep': [],
    'rotary_value': False,
}
# Hugging Face's names of activations -> ours. The last three compute the tanh form in other ways.
ACTIVATIONS = {
    'gelu': 'gelu',
    'gelu_python': 'gelu',
    'relu': 'relu',
    'gelu_new': 'gelu_tanh',
    'gelu_pytorch_tanh': 'gelu_tanh',
    'gelu_python_tanh': 'gelu_tanh',
    'gelu_fast': 'gelu_tanh',
}
THEIR_ACTIVATIONS = {'gelu': 'gelu', 'relu': 'relu', 'gelu_tanh': 'gelu_new'}

# Model type -> heads -> the class of a model with exactly these heads.
CLASSES: dict[str, dict[tuple[str, ...], str]] = {
    'bert': {
        (): 'BertModel',
        ('mlm',): 'BertForMaskedLM',
        ('mlm', 'pair'): 'BertForPreTraining',
        ('pair',): 'BertForNextSentencePrediction',
        ('label',): 'BertForSequenceClassification',
        ('span',): 'BertForQuestionAnswering',
        ('choice',): 'BertForMultipleChoice',
    },
    'distilbert': {
        (): 'DistilBertModel',
        ('mlm',): 'DistilBertForMaskedLM',
        ('label',): 'DistilBertForSequenceClassification',
        ('span',): 'DistilBertForQuestionAnswering',
        ('choice',): 'DistilBertForMultipleChoice',
    },
    'albert': {
        (): 'AlbertModel',
        ('mlm',): 'AlbertForMaskedLM',
        ('mlm', 'pair'): 'AlbertForPreTraining',
        ('label',): 'AlbertForSequenceClassification',
        ('span',): 'AlbertForQuestionAnswering',
        ('choice',): 'AlbertForMultipleChoice',
    },
    'roformer': {
        (): 'RoFormerModel',
        ('mlm',): 'RoFormerForMaskedLM',
        ('span',): 'RoFormerForQuestionAnswering',
    },
}
CLASSES['megatron-bert'] = {heads: f'Megatron{name}' for heads, name in CLASSES['bert'].items()}
