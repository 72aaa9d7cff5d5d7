"""Models of the Hugging Face hub: their ids, downloads and errors."""

import huggingface_hub
import pytest
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from research.errors import UserError
from research.interchange import hub
from research.runs import sources


@pytest.mark.parametrize(
    ('source', 'is_id'),
    [
        ('bert-base-uncased', True),
        ('google-bert/bert-base-uncased', True),
        ('research/bert', False),
        ('./bert', False),
        ('a/b/c', False),
        ('@teacher', False),
        ('/tmp/x', False),
    ],
)
def test_ids_of_the_hub_and_paths_are_distinguished(source, is_id, root, monkeypatch):
    monkeypatch.chdir(root)
    assert hub.is_hub_id(source) == is_id


def test_a_model_of_the_hub_is_fetched(model, tmp_path, monkeypatch):
    folder, asked = model('BertBin'), []

    def download(source, allow_patterns):
        asked.append((source, allow_patterns))
        return str(folder)

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
    donor = sources.open_donor('owner/model', tmp_path / 'x', 'start')
    assert donor.heads == (('mlm', 32),)
    assert [source for source, _ in asked] == ['owner/model'] * 2
    assert 'model-*.safetensors' in asked[0][1]
    assert {'modules.json', 'sentence_bert_config.json', '*_Pooling/config.json'} <= set(asked[0][1])
    assert 'pytorch_model-*.bin' in asked[1][1]
    (folder / 'pytorch_model.bin').unlink()
    with pytest.raises(UserError, match="the hub's 'owner/model' holds no weights"):
        hub.fetch('owner/model')


@pytest.mark.parametrize(
    'error',
    [
        LocalEntryNotFoundError('no network\nat all'),
        RepositoryNotFoundError.__new__(RepositoryNotFoundError, '404'),  # without the response that its __init__ asks for
        HFValidationError('no such name'),
        OSError('broken'),
        OSError(),
    ],
)
def test_an_error_of_the_hub_is_one_line(error, tmp_path, monkeypatch):
    def download(source, allow_patterns):
        raise error

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', download)
    with pytest.raises(
        UserError, match="start='owner/model': there is no folder owner/model, and 'owner/model' could not be downloaded"
    ) as raised:
        sources.open_donor('owner/model', tmp_path / 'x', 'start')
    assert '\n' not in str(raised.value)
