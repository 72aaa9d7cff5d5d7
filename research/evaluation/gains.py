"""What a model knows beyond how frequent pieces are: its gain at [MASK], by held-out document."""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.files import write_whole
from research.records import open_regular

FILE = 'held_out.npz'
LARGEST = 2**28  # bytes of a file that is read: of eight million documents
# An array of one dimension as numpy saves it.
HEADER = rb"\x93NUMPY\x01\x00..\{'descr': '(<i8|<f8)', 'fortran_order': False, 'shape': \((\d{1,9}),\), \} *\n"


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Sums over the pieces shown as [MASK] in each of N held-out documents that has any."""

    document: NDArray[np.int64]  # [N] increasing: its number among the held-out ones, the same in all runs on this corpus
    count: NDArray[np.int64]  # [N] pieces
    loss: NDArray[np.float64]  # [N] of the model, nats
    frequencies: NDArray[np.float64]  # [N] of the training frequencies on the same pieces, nats

    def describe(self) -> dict[str, float]:
        """The mean losses of both at [MASK], the gain over frequencies, and its standard error if there are two documents.

        The error is that of a ratio over documents (Cochran 1977, §6.4): pieces of one document are not independent.
        """
        total, many = self.count.sum(), len(self.count)
        loss, known = self.loss.sum() / total, self.frequencies.sum() / total
        found = {'mlm_masked': float(loss), 'frequencies': float(known), 'gain': float(known - loss)}
        if many < 2:
            return found
        residuals = self.frequencies - self.loss - (known - loss) * self.count
        return found | {'gain_error': float(np.sqrt(many / (many - 1) * (residuals**2).sum()) / total)}


def add_up(rows: Sequence[Mapping[str, NDArray[Any]]]) -> HeldOut | None:
    """The HeldOut of rows: mappings with `document`, `count`, `loss` and `frequencies` [B]; None if no piece is shown as [MASK]."""
    joined = {field.name: np.concatenate([each[field.name] for each in rows]) for field in fields(HeldOut)} if rows else {}
    if not joined or not joined['count'].any():
        return None
    counted = joined['count'] > 0
    document, place = np.unique(joined['document'][counted].astype(np.int64), return_inverse=True)
    loss, frequencies = (np.bincount(place, joined[name][counted]).astype(np.float64) for name in ('loss', 'frequencies'))
    return HeldOut(document, np.bincount(place, joined['count'][counted]).astype(np.int64), loss, frequencies)


def write_held_out(folder: Path, found: HeldOut) -> None:
    """Writes held_out.npz; equal sums make equal bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        for field in fields(HeldOut):
            array = io.BytesIO()
            np.save(array, getattr(found, field.name), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f'{field.name}.npy'), array.getvalue())  # a ZipInfo has a fixed time stamp
    write_whole(folder / FILE, content.getvalue())


def read_held_out(folder: Path) -> HeldOut | None:
    """The held_out.npz of a run; None if it is missing, half-written or no HeldOut. Raises UserError for a pipe."""
    try:
        with open(folder / FILE, 'rb', opener=open_regular) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            return None
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = HeldOut(**{field.name: _read_array(archive, field.name) for field in fields(HeldOut)})
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
        return None
    arrays = [getattr(found, field.name) for field in fields(HeldOut)]
    if (
        [array.dtype.kind for array in arrays] != ['i', 'i', 'f', 'f']
        or len({len(array) for array in arrays}) > 1
        or not len(arrays[0])
    ):
        return None
    ordered = found.document[0] >= 0 and (np.diff(found.document) > 0).all() and (found.count > 0).all()
    return found if ordered and all(np.abs(array).sum() < np.inf for array in arrays[2:]) else None


def _read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array as `write_held_out` writes it. Raises ValueError for any other form: it unpickles nothing and trusts no size."""
    entry = archive.getinfo(f'{name}.npy')
    if entry.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f'{name} is compressed')
    content = archive.read(entry)
    head = re.match(HEADER, content, re.DOTALL)
    if head is None or len(content) - head.end() != 8 * int(head[2]):
        raise ValueError(f'{name} has another form')
    return np.frombuffer(content, head[1].decode(), offset=head.end())
