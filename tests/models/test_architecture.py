"""Architectures that cannot be built are refused."""

import dataclasses
import re
from typing import Any

import pytest

from research.errors import UserError
from research.models.architecture import Architecture, validate


def test_the_default_is_bert_base() -> None:
    validate(Architecture())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        *(
            ({field: 0}, f'model.{field}=0 must be at least 1')
            for field in ('vocabulary', 'layers', 'width', 'heads', 'inner', 'embedding', 'positions')
        ),
        ({'heads': 7}, 'model.width=768 is not a multiple of model.heads=7; --config.model.heads=6 would fit'),
        ({'dropout': 1.0}, 'model.dropout=1.0 must be at least 0 and below 1'),
        ({'attention_dropout': -0.1}, 'model.attention_dropout=-0.1 must be at least 0 and below 1'),
        ({'head_dropout': 2.0}, 'model.head_dropout=2.0 must be at least 0 and below 1'),
        ({'types': -1}, 'model.types=-1 must not be negative'),
        ({'unroll': -1}, 'model.unroll=-1 must not be negative'),
        ({'activation': 'gelo'}, "no model.activation named 'gelo'; did you mean 'gelu'?"),
        ({'position_kind': 'rotery'}, "no model.position_kind named 'rotery'; did you mean 'rotary'?"),
        (
            {'position_kind': 'rotary', 'width': 36, 'heads': 12},
            'turns pairs of numbers, but model.width=36 ÷ model.heads=12 is odd; --config.model.heads=9 would fit',
        ),
        ({'position_kind': 'rotary', 'width': 15, 'heads': 3}, 'model.width=15 ÷ model.heads=3 is odd; give an even model.width'),
        ({'norm': 'prae'}, "no model.norm named 'prae'; did you mean 'pre'? (there are: post, pre, deepnorm)"),
        ({'dtype': 'float16'}, "no model.dtype named 'float16'; did you mean"),
    ],
)
def test_an_impossible_architecture_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        validate(dataclasses.replace(Architecture(), **changes))
