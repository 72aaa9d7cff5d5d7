"""Settings of the data that are impossible, whatever the text."""

from research.data import cleaners, masking
from research.data.mixture import mixture
from research.data.pretraining import PAIRS
from research.data.sequences import FILLS
from research.data.settings import Data
from research.data.sources import parse
from research.errors import UserError, choose


def validate(data: Data, batch: int, seed: int) -> None:
    """Raise a UserError for a setting that is out of range, whatever the text."""
    choose('data.pairs', data.pairs, PAIRS)
    choose('data.fill', data.fill, FILLS)
    masking.validate(data.masking)
    validate_corpus(data)
    numbers = [('batch', batch, 1), ('seed', seed, 0), ('data.prefetch', data.prefetch, 0), ('data.workers', data.workers, 0)]
    numbers += [(f'data.answers.{name}', getattr(data.answers, name), 1) for name in ('stride', 'question', 'longest', 'best')]
    for name, value, least in numbers:
        if value < least:
            raise UserError(f'{name}={value} must be {least} at least')
    if seed >= 2**32:
        raise UserError(f'seed={seed} must be below {2**32}')
    if not 8 <= data.length <= 65_536:
        raise UserError(f'data.length={data.length} must lie between 8 and 65536 pieces')
    if not data.task:
        masking.predictions(data.masking, data.length)
    if not 0 <= data.short <= 1:
        raise UserError(f'data.short={data.short} must be a share, between 0 and 1')
    if data.pairs != 'none' and (data.pack or data.fill != 'pieces'):
        given = 'data.pack' if data.pack else f'data.fill={data.fill}'
        raise UserError(
            f'{given} is for single segments, but data.pairs={data.pairs}, whose segments are whole sentences; give none'
        )
    if data.pack and (data.task or data.fill == 'documents'):
        raise UserError(
            'data.pack keeps documents apart: it is for pretraining, and for data.fill=pieces or sentences; without it, give false'
        )
    if data.first_length and not 8 <= data.first_length < data.length:
        raise UserError(f'data.first_length={data.first_length} must be 8 or more and below data.length={data.length}, or 0')
    if not 0 < data.first_share < 1:
        raise UserError(f'data.first_share={data.first_share} must be a share of the steps, between 0 and 1')


CHANGED = ('prepare', 'refuse')  # what is done when files changed since they were prepared
DOCUMENTS = ('blank_lines', 'files')  # what separates the documents of a text file: blank lines, or nothing


def validate_corpus(data: Data) -> None:
    """Raises UserError for settings that no corpus can have."""
    choose('data.changed', data.changed, CHANGED)
    choose('data.documents', data.documents, DOCUMENTS)
    if not 0 <= data.held_out < 1:
        raise UserError(f'data.held_out={data.held_out} must be a share: 0 (no evaluation) or more, below 1')
    for name in data.cleaners:
        choose('cleaner (data.cleaners)', name, cleaners.CLEANERS)
    for _, source in mixture(data.source):
        parse(source)
