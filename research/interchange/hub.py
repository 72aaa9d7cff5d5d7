"""Models of the Hugging Face hub, fetched into its cache."""

import re
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from research.errors import UserError
from research.interchange.folder_tokenizer import FILES as TOKENIZERS
from research.interchange.weights import FILES as WEIGHTS

BESIDE = ('config.json', 'tokenizer_config.json', 'added_tokens.json', *TOKENIZERS)


def is_hub_id(source: str) -> bool:
    """Whether `source` may be an id of the hub, NAME or OWNER/NAME, rather than a path.

    What begins with a folder that is here, or with `runs`, where runs are by default, is a path: a run that is not there yet must
    never be asked for on the network under somebody's name.
    """
    owner, slash, _ = source.partition('/')
    return bool(re.fullmatch(r'\w[\w.-]*(/\w[\w.-]*)?', source)) and not (slash and (owner == 'runs' or Path(owner).is_dir()))


def fetch(source: str) -> Path:
    """The folder of the model that the hub calls `source`: safetensors where it has them, else pytorch_model.bin.

    Raises UserError where the hub cannot be reached or has no such model.
    """
    try:
        for weights in (WEIGHTS[:2], WEIGHTS[2:]):
            shards = [f'{name.split(".")[0]}-*.{name.split(".")[1]}' for name in weights[:1]]
            folder = Path(huggingface_hub.snapshot_download(source, allow_patterns=[*BESIDE, *weights, *shards]))
            if any((folder / name).is_file() for name in weights):
                return folder
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        told = str(error).strip().splitlines()[0].rstrip('.') if str(error).strip() else type(error).__name__
        raise UserError(
            f"'{source}' could not be fetched from the Hugging Face hub ({told}); "
            'give the path of a run or of a Hugging Face folder, or try again with a network'
        ) from None
    raise UserError(f"the hub's '{source}' holds no weights: there is no {' or '.join(WEIGHTS[::2])}")
