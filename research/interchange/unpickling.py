"""Reads a pickle as a list of instructions: it builds dicts, lists, tuples and plain values, and calls nothing but the given table.

Python's own unpickler is not used: a pickle of 127 bytes makes it take 8 GB, and it sets attributes of what it calls.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.errors import UserError

OPERATIONS = 2**20  # of one file; a BERT-large has 20,000
PLAIN = (str, int, float, bool, bytes, type(None))  # kinds of keys: values that hold no others


@dataclass(frozen=True)
class Global:
    """A name in a pickle: of a function or a class, which is not imported."""

    module: str
    name: str


class Mark:
    """The place on the stack where the items of a list, a tuple or a dict begin."""


class Machine:
    """Runs the pickles of one file, which share one bound on the number of operations."""

    def __init__(
        self, file: Path, calls: Mapping[Global, Callable[..., Any]], values: Mapping[Global, Any], refer: Callable[[Any], Any]
    ) -> None:
        """calls: what a pickle may call. values: what it may name besides. refer: a persistent id -> its object."""
        self._file, self._calls, self._values, self.refer = file, calls, values, refer
        self._operations = 0
        self._stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def load(self, stream: io.BytesIO) -> Any:
        """The object of the pickle that begins here; `stream` ends behind it.

        Raises UserError for a name that it may not use, and ValueError, IndexError, KeyError or TypeError if it is damaged.
        """
        self._stack, self.memo = [], {}
        for operation, argument, _ in pickletools.genops(stream):
            self._operations += 1
            if self._operations > OPERATIONS:
                raise ValueError(f'it has more than {OPERATIONS:,} operations')
            if operation.name == 'STOP':
                return self.pop()
            if operation.name not in STEPS:
                raise ValueError(f'it has the operation {operation.name}, which no tensor needs')
            STEPS[operation.name](self, argument)
        raise ValueError('it does not end')

    # ---- What the rows of STEPS do ----

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self._stack.append(value)

    def pop(self) -> Any:
        """The last value, which is removed."""
        if not self._stack or isinstance(self._stack[-1], Mark):
            raise IndexError('an operation lacks its operand')
        return self._stack.pop()

    def pop_marked(self) -> list[Any]:
        """The items above the last mark, which is removed too."""
        for place in range(len(self._stack) - 1, -1, -1):
            if isinstance(self._stack[place], Mark):
                items = self._stack[place + 1 :]
                del self._stack[place:]
                return items
        raise IndexError('an operation lacks its mark')

    def top(self, kind: type) -> Any:
        """The last value, which stays. Raises TypeError if it is no `kind`."""
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise TypeError(f'an operation needs a {kind.__name__}')
        return self._stack[-1]

    def make_tuple(self, size: int) -> None:
        """Replaces the last `size` values by a tuple of them."""
        items = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        """Appends to the list on top."""
        self.top(list).extend(items)

    def set_items(self, items: list[Any]) -> None:
        """Adds keys and values, in turn, to the dict on top."""
        into = self.top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            into[check_key(key)] = value

    def set_item(self) -> None:
        """Adds the last two values to the dict below them."""
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def memorise(self, number: int) -> None:
        """Keeps the value on top under a number."""
        if not self._stack:
            raise IndexError('an operation lacks its operand')
        self.memo[number] = self._stack[-1]

    def recall(self, number: int) -> None:
        """Puts what was kept under a number on the stack."""
        if number not in self.memo:
            raise ValueError(f'it uses value {number} before it is made')
        self.push(self.memo[number])

    def name(self, module: Any, name: Any) -> None:
        """Puts the value of a name on the stack. Raises UserError for a name outside the tables."""
        if not isinstance(module, str) or not isinstance(name, str):
            raise TypeError('a name is no text')
        named = Global(module, name)
        if named not in self._calls and named not in self._values:
            raise UserError(
                f"'{self._file}' would run {named.module}.{named.name} when it is read, which is refused; "
                'save the model as safetensors, or give a file that holds only tensors'
            )
        self.push(self._values[named] if named in self._values else named)

    def refuse(self, module: str, name: str) -> None:
        """Raises UserError or ValueError: it makes an object of a class."""
        self.name(module, name)
        raise ValueError(f'it makes a {module}.{name}, which no tensor needs')

    def reduce(self) -> None:
        """Calls a function of the table."""
        arguments, called = self.pop(), self.pop()
        if not isinstance(called, Global) or called not in self._calls or not isinstance(arguments, tuple):
            raise TypeError('it calls what is no function')
        self.push(self._calls[called](*arguments))

    def build(self) -> None:
        """Attributes, which torch gives the dict of a model alone: they are left out."""
        self.pop()
        self.top(dict)


def check_key(key: Any) -> Any:
    """A key of a dict. Raises TypeError if it is no plain value: others may be nested too deep to be compared."""
    if not isinstance(key, PLAIN):
        raise TypeError('a key is no plain value')
    return key


def _name_of(argument: Any) -> list[str]:
    return str(argument).split(' ', 1)  # pickletools gives 'module name'


# Operation -> what it does to the machine, by the names of pickletools. An operation that is not here is refused.
STEPS: dict[str, Callable[[Any, Any], None]] = {
    'PROTO': lambda m, x: None,
    'FRAME': lambda m, x: None,
    'MARK': lambda m, x: m.push(Mark()),
    'POP': lambda m, x: m.pop() and None,
    'POP_MARK': lambda m, x: m.pop_marked() and None,
    'NONE': lambda m, x: m.push(None),
    'NEWTRUE': lambda m, x: m.push(True),
    'NEWFALSE': lambda m, x: m.push(False),
    'EMPTY_DICT': lambda m, x: m.push({}),
    'EMPTY_LIST': lambda m, x: m.push([]),
    'EMPTY_TUPLE': lambda m, x: m.push(()),
    'DICT': lambda m, x: _make_dict(m),
    'LIST': lambda m, x: m.push(m.pop_marked()),
    'TUPLE': lambda m, x: m.push(tuple(m.pop_marked())),
    'TUPLE1': lambda m, x: m.make_tuple(1),
    'TUPLE2': lambda m, x: m.make_tuple(2),
    'TUPLE3': lambda m, x: m.make_tuple(3),
    'APPEND': lambda m, x: m.extend([m.pop()]),
    'APPENDS': lambda m, x: m.extend(m.pop_marked()),
    'SETITEM': lambda m, x: m.set_item(),
    'SETITEMS': lambda m, x: m.set_items(m.pop_marked()),
    'MEMOIZE': lambda m, x: m.memorise(len(m.memo)),
    'GLOBAL': lambda m, x: m.name(*_name_of(x)),
    'STACK_GLOBAL': lambda m, x: m.name(*reversed((m.pop(), m.pop()))),
    'INST': lambda m, x: m.refuse(*_name_of(x)),
    'REDUCE': lambda m, x: m.reduce(),
    'BUILD': lambda m, x: m.build(),
    'BINPERSID': lambda m, x: m.push(m.refer(m.pop())),
}
STEPS |= dict.fromkeys(('PUT', 'BINPUT', 'LONG_BINPUT'), lambda m, x: m.memorise(x))
STEPS |= dict.fromkeys(('GET', 'BINGET', 'LONG_BINGET'), lambda m, x: m.recall(x))
STEPS |= dict.fromkeys(
    ('INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT')
    + ('STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE', 'BINUNICODE8')
    + ('BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'),
    lambda m, x: m.push(x),
)


def _make_dict(machine: Machine) -> None:
    items = machine.pop_marked()
    machine.push({})
    machine.set_items(items)
