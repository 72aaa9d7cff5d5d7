"""Downloads models of the Hugging Face hub into its cache."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from research.data.tokenizer_files import FILES as TOKENIZERS
from research.errors import UserError
from research.interchange.pooling import FILES as POOLING
from research.interchange.weights import FILES as WEIGHTS

BESIDE = ('config.json', 'tokenizer_config.json', 'added_tokens.json', 'special_tokens_map.json', *TOKENIZERS, *POOLING)


def is_hub_id(source: str) -> bool:
    """Whether `source` may be an id of the hub, NAME or OWNER/NAME, and not a path.

    If OWNER is an existing folder, or `runs`, the default folder of runs, `source` is a path: the name of a run that does not
    exist yet must never be sent to the network.
    """
    owner, slash, _ = source.partition('/')
    return bool(re.fullmatch(r'\w[\w.-]*(/\w[\w.-]*)?', source)) and not (slash and (owner == 'runs' or Path(owner).is_dir()))


def fetch(source: str) -> Path:
    """Downloads the model with the id `source` and returns its folder. Takes safetensors if there are any, else pytorch_model.bin.

    Raises UserError if the hub cannot be reached, has no such model, or the model has no weights.
    """
    try:
        for weights in (WEIGHTS[:2], WEIGHTS[2:]):
            shards = [f'{name.split(".")[0]}-*.{name.split(".")[1]}' for name in weights[:1]]
            folder = Path(huggingface_hub.snapshot_download(source, allow_patterns=[*BESIDE, *weights, *shards]))
            if any((folder / name).is_file() for name in weights):
                return folder
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines()[0].rstrip('.') if str(error).strip() else type(error).__name__
        raise UserError(
            f"'{source}' could not be downloaded from the Hugging Face hub ({reason}); "
            'give the path of a run or of a Hugging Face folder, or connect to the network'
        ) from None
    raise UserError(f"the hub's '{source}' holds no weights: it has no {' or '.join(WEIGHTS[::2])}")
