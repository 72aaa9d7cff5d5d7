"""The time and the peak memory of importing a Hugging Face folder of BERT-base's size, in a separate process.

    python benchmarks/import_speed.py [--layers 12]

The folder holds random weights, 440 MB of safetensors. The time is that of the whole command, with the start of Python.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np
from safetensors.numpy import save_file

from research.interchange import configuration, reading, tensor_names
from research.interchange.tensor_names import Block
from research.models.architecture import Architecture

VOCABULARY = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'a', 'b']


def make_folder(folder: Path, layers: int) -> int:
    """Writes a random BertForPreTraining of base width to `folder`; returns its number of parameters."""
    a = Architecture(layers=layers, activation='gelu')
    heads = (('mlm', a.vocabulary), ('pair', 2))
    shapes = jax.tree.map(lambda x: np.empty(x.shape, np.float32), reading.compute_shapes(a, heads))
    generator = np.random.default_rng(0)
    blocks = [Block(tensor_names.name_block('bert', layer), (layer, layer)) for layer in range(layers)]
    tensors = {}
    for slot in tensor_names.list_slots('bert', blocks, shapes):
        place = shapes
        for name in slot.path:
            place = place[name]
        shape = tensor_names.to_their_shape(slot.path, place.shape if slot.group is None else place.shape[1:])
        tensors[slot.name] = generator.standard_normal(shape, np.float32) * np.float32(0.02)
    save_file(tensors, folder / 'model.safetensors', metadata={'format': 'pt'})
    config = configuration.make_config('bert', a, ('mlm', 'pair'), (layers, layers, 1))
    (folder / 'config.json').write_text(json.dumps(config))
    (folder / 'vocab.txt').write_text('\n'.join(VOCABULARY) + '\n')
    return sum(tensor.size for tensor in tensors.values())


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument('--layers', type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / 'model'
        folder.mkdir()
        parameters = make_folder(folder, given.layers)
        begin = time.monotonic()
        command = [sys.executable, '-m', 'research.interchange', 'import', str(folder), str(Path(temporary) / 'run')]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
        seconds = time.monotonic() - begin
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({'parameters': parameters, 'seconds': round(seconds, 2), 'peak_memory_bytes': peak}))


if __name__ == '__main__':
    main()
