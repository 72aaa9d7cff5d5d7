"""The contenders of inference.py: an encoder's forward pass, and sentences of mixed length as vectors."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import peers
from benchmarks.harness.cases import Batch
from benchmarks.harness.turns import Contender, list_processors, read_resident, read_resident_peak
from research.models.architecture import Architecture
from research.runs.memory import keep_memory


@dataclasses.dataclass(frozen=True)
class Shape:
    """A forward pass: a model, and full sequences."""

    model: Architecture
    batch: int
    length: int

    def make_batch(self) -> Batch:
        """Random ids, int32 [B, T]."""
        ids = np.random.default_rng(0).integers(5, self.model.vocabulary, (self.batch, self.length), dtype=np.int32)
        return {'ids': ids, 'types': np.zeros_like(ids), 'mask': np.ones_like(ids)}


def ours(shape: Shape) -> Contender:
    """The jitted `encode`. At batch 1 each result is waited for; larger batches are waited for at the end."""
    keep_memory()
    import jax

    from research.models.heads import Model, encode, initialise
    from research.parallel import read_peak_memory

    jax.block_until_ready(jax.numpy.zeros(1))
    before = read_resident()
    model = Model(shape.model)
    # Weights are kept in the dtype of the products, as PyTorch's users do for inference.
    params = jax.tree.map(lambda x: x.astype(shape.model.dtype), initialise(model, jax.random.key(0)))
    compiled = jax.jit(lambda params, batch: encode(model, params, batch).hidden)
    batch = shape.make_batch()

    def run(steps: int) -> None:
        found: Any = None
        for _ in range(steps):
            found = compiled(params, batch)
            if shape.batch == 1:
                found.block_until_ready()
        jax.block_until_ready(found)

    def read_peak() -> int:
        used = read_peak_memory()
        return read_resident_peak() - before if used is None else used

    return Contender(run, read_peak)


def torch_encoder(shape: Shape, compiled: bool) -> Contender:
    """transformers' encoder without its pooler. Sequences are full, so it gets no mask and may take its fastest attention."""
    torch, transformers, device = peers.load()
    before = read_resident()
    kind = {'float32': torch.float32, 'bfloat16': torch.bfloat16}[shape.model.dtype]
    model = peers.make_model(transformers, shape.model, '', add_pooling_layer=False).to(device, kind).eval()
    ids = torch.from_numpy(shape.make_batch()['ids']).long()
    compute = torch.compile(model) if compiled else model

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                compute(input_ids=ids.to(device))
                if device == 'cuda' and shape.batch == 1:
                    torch.cuda.synchronize()
            if device == 'cuda':
                torch.cuda.synchronize()

    def read_peak() -> int:
        return torch.cuda.max_memory_allocated() if device == 'cuda' else read_resident_peak() - before

    return Contender(run, read_peak)


# ---- ONNX Runtime ---------------------------------------------------------------------------------------------------------------


def export(model: Any, path: Path) -> None:
    """Writes transformers' encoder as an ONNX file for batches of any size and length, unless it is there."""
    if path.is_file():
        return
    torch: Any = importlib.import_module('torch')

    class Hidden(torch.nn.Module):
        """The encoder with one result."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            """The last hidden states."""
            return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    ids = torch.ones(2, 16, dtype=torch.long)
    sizes = {0: torch.export.Dim('batch'), 1: torch.export.Dim('length', min=2, max=512)}
    part = path.with_suffix('.part')
    torch.onnx.export(
        Hidden().eval(),
        (ids, ids),
        str(part),
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=['input_ids', 'attention_mask'],
        output_names=['hidden'],
        dynamic_shapes={'input_ids': sizes, 'attention_mask': sizes},
    )  # one file
    part.rename(path)


def open_session(path: Path, is_int8: bool) -> Any:
    """The session of an ONNX file, its products in 8 bits if asked (dynamic quantization), on this process's processors."""
    runtime: Any = importlib.import_module('onnxruntime')
    if is_int8:
        quantization: Any = importlib.import_module('onnxruntime.quantization')
        small = path.with_suffix('.int8.onnx')
        quantization.quantize_dynamic(str(path), str(small), weight_type=quantization.QuantType.QInt8)
        path = small
    options = runtime.SessionOptions()
    options.intra_op_num_threads = len(list_processors(None))
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])


def onnx_encoder(shape: Shape, is_int8: bool, folder: str) -> Contender:
    """transformers' encoder in ONNX Runtime, on the processor. The file stays in `folder` for the other shapes of the model."""
    _, transformers, _ = peers.load()
    name = f'{shape.model.layers}x{shape.model.width}.onnx'
    if not (Path(folder) / name).is_file():
        export(peers.make_model(transformers, shape.model, '', add_pooling_layer=False).eval(), Path(folder) / name)
    before = read_resident()
    session = open_session(Path(folder) / name, is_int8)
    batch = shape.make_batch()
    inputs = {'input_ids': batch['ids'].astype(np.int64), 'attention_mask': batch['mask'].astype(np.int64)}

    def run(steps: int) -> None:
        for _ in range(steps):
            session.run(None, inputs)

    return Contender(run, lambda: read_resident_peak() - before)


# ---- Sentences of mixed length --------------------------------------------------------------------------------------------------


def our_vectors(start: str, texts: Sequence[str]) -> Contender:
    """One step: the mean-pooled vectors of all texts by research.predict, from texts to arrays."""
    keep_memory()
    from research.predict import batching
    from research.predict.inputs import Input
    from research.predict.kinds import KINDS
    from research.runs import sources

    donor, x = sources.open_model(start, Path('runs/none'), 'start')
    kind = dataclasses.replace(KINDS['embed'], describe=lambda donor, reader, x, rows: rows[0][1])
    inputs = [Input(f'text {number}', {'text': text}) for number, text in enumerate(texts)]

    def run(steps: int) -> None:
        for _ in range(steps):
            found = list(batching.predict(donor, kind, x.data, inputs))
            assert len(found) == len(texts)

    return Contender(run)


def their_vectors(start: str, texts: Sequence[str], compiled: bool, size: int) -> Contender:
    """One step: the same by transformers, in batches of `size` texts of similar length, each padded to its longest."""
    torch, transformers, device = peers.load()
    tokenizer = transformers.AutoTokenizer.from_pretrained(start)
    model = transformers.AutoModel.from_pretrained(start, attn_implementation='sdpa', add_pooling_layer=False).to(device).eval()
    compute = torch.compile(model, dynamic=True) if compiled else model
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))  # as sentence-transformers does

    def encode(members: list[int]) -> np.ndarray:
        given = tokenizer([texts[i] for i in members], padding=True, truncation=True, return_tensors='pt').to(device)
        hidden = compute(**given).last_hidden_state
        mask = given['attention_mask'][:, :, None].to(hidden.dtype)
        return ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()

    def run(steps: int) -> None:
        with torch.inference_mode():
            for _ in range(steps):
                found = [encode(order[at : at + size]) for at in range(0, len(order), size)]
                assert sum(map(len, found)) == len(texts)

    return Contender(run)


def onnx_vectors(start: str, texts: Sequence[str], is_int8: bool, size: int, folder: str) -> Contender:
    """One step: the same in ONNX Runtime."""
    _, transformers, _ = peers.load()
    tokenizer = transformers.AutoTokenizer.from_pretrained(start)
    path = Path(folder) / 'start.onnx'
    if not path.is_file():
        export(transformers.AutoModel.from_pretrained(start, attn_implementation='sdpa', add_pooling_layer=False).eval(), path)
    session = open_session(path, is_int8)
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))

    def encode(members: list[int]) -> np.ndarray:
        given = tokenizer([texts[i] for i in members], padding=True, truncation=True, return_tensors='np')
        (hidden,) = session.run(None, {name: given[name].astype(np.int64) for name in ('input_ids', 'attention_mask')})
        mask = given['attention_mask'][:, :, None].astype(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)

    def run(steps: int) -> None:
        for _ in range(steps):
            found = [encode(order[at : at + size]) for at in range(0, len(order), size)]
            assert sum(map(len, found)) == len(texts)

    return Contender(run)
