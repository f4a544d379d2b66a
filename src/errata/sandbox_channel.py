"""How the tester calls a function that lives in another process, and how values cross. Standard library only.

A call crosses as a restricted pickle in which nothing but plain values can be named. What is no plain value stays where it
is: a function arrives as a function that calls back, an iterator as a generator that fetches, any other object as an opaque
one that equals only itself. Lists, dicts and sets in the arguments keep their identity: what the other side did to them is
done to the originals, and a result that holds an argument holds the original.
"""

import builtins
import collections
import contextlib
import datetime
import decimal
import fractions
import io
import itertools
import operator
import os
import pickle
from collections.abc import Callable, Iterator
from typing import Any

_SCALARS: tuple[Any, ...] = (int, float, complex, str, bytes, tuple)
_BOXES: dict[type, Callable[[Any], Any]] = {
    list: list, dict: lambda box: dict(dict.items(box)), set: set, bytearray: bytes, collections.deque: list,
}  # fmt: skip
_PLAIN = (
    *_SCALARS, *_BOXES, bool, frozenset, range, slice, collections.Counter, collections.OrderedDict, collections.defaultdict,
    decimal.Decimal, fractions.Fraction, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
    datetime.timezone,
)  # fmt: skip


def _maker(kind: type) -> Callable[..., Any]:
    """The type itself where nobody can change it, else a function that makes one: a pickle may set attributes."""
    return kind if kind.__module__ == "builtins" else lambda *args: kind(*args)


_NAMED = {(kind.__module__, kind.__qualname__): _maker(kind) for kind in _PLAIN} | {("builtins", "Ellipsis"): ...}


class Over(BaseException):
    """The program is done for, whatever the tests still do: the first one counts, even if a test swallows it."""

    first: "Over | None" = None

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(status, detail)
        Over.first = Over.first or self
        self.status = status
        self.detail = detail


class Opaque:
    """An object of the other side. It equals only itself."""

    def __init__(self, number: int, kind: str, truth: bool) -> None:
        self.number, self.kind, self.truth = number, kind, truth

    def __bool__(self) -> bool:
        return self.truth

    def __repr__(self) -> str:
        return f"<{self.kind} object>"


def keys(items: list[Any]) -> Any:
    """A view of keys like the one that was sent."""
    return dict.fromkeys(items).keys()


def values(items: list[Any]) -> Any:
    """A view of values like the one that was sent."""
    return dict(enumerate(items)).values()


def pairs(items: list[Any]) -> Any:
    """A view of items like the one that was sent."""
    return dict(items).items()


_VIEWS = {type({}.keys()): keys, type({}.values()): values, type({}.items()): pairs}


class Channel:
    """One end of the line. `trusted` is the tester's end: only it may send names of builtins and objects of its classes."""

    def __init__(self, read: int, write: int, trusted: bool, gone: Callable[[], Over]) -> None:
        self.read, self.write, self.trusted, self.gone = read, write, trusted, gone
        self.namespace: dict[str, Any] = {}
        self.last: tuple[str, Any, Any] | None = None  # the newest call: name, arguments, result
        self._kept: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._far: dict[int, Any] = {}

    def call(self, number: int, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the other side by its number."""
        boxes = find_boxes((args, kwargs))
        self._send(("call", number, args, kwargs))
        return self.answer(boxes)

    def answer(self, boxes: list[Any]) -> Any:
        """Wait for the answer of a call; meanwhile serve the calls that come from there."""
        while True:
            kind, *rest = self._receive(boxes)
            if kind == "call":
                self._serve(*rest)
                continue
            changes, value = rest
            for number, content in changes.items():
                _refill(boxes[number], content)
            if kind == "return":
                return value
            raise self._rebuilt(*value)

    def serve_forever(self) -> None:
        """Answer calls until the other side hangs up."""
        while True:
            self._serve(*self._receive([])[1:])

    def reply(self, work: Callable[[], Any], boxes: list[Any]) -> None:
        """Send what the work returns or raises, and what became of the boxes."""
        before = [_contents(box) for box in boxes]
        try:
            kind, value = "return", work()
        except Over:
            raise
        except BaseException as error:  # noqa: BLE001  a program may raise anything
            kind, value = "raise", self._described(error)
        changes = {
            number: _plain_box(box)
            for number, box in enumerate(boxes)
            if len(now := _contents(box)) != len(before[number]) or not all(map(operator.is_, now, before[number]))
        }
        try:
            self._send((kind, changes, value), boxes)
        except Exception as error:  # noqa: BLE001  a result that cannot be sent, nested too deeply say
            self._send(("raise", {}, self._described(error)))

    def _serve(self, number: int, args: Any, kwargs: Any) -> None:
        self.reply(lambda: self._kept[number](*args, **kwargs), find_boxes((args, kwargs)))

    # What crosses, by name: these stand in a pickle in place of what stays behind.

    def function(self, number: int, name: str) -> Any:
        """A function of the other side."""

        def proxy(*args: Any, **kwargs: Any) -> Any:
            self.last = (name, (args, kwargs), NotImplemented)
            result = self.call(number, *args, **kwargs)
            self.last = (name, (args, kwargs), result)
            return result

        proxy.__name__ = proxy.__qualname__ = str(name)
        proxy.far = number  # type: ignore[attr-defined]
        return self._far.setdefault(number, proxy)

    def stream(self, number: int) -> Iterator[Any]:
        """An iterator of the other side, fetched in growing portions."""
        size, done = 1, False
        while not done:
            items, done = self.call(number, size)
            yield from items
            size = min(2 * size, 1024)

    def opaque(self, number: int, kind: str, truth: bool) -> Any:
        """Any other object of the other side."""
        return self._far.setdefault(number, Opaque(number, str(kind), bool(truth)))

    def home(self, number: int) -> Any:
        """An object of this side that was sent there and comes back."""
        return self._kept[number]

    def instance(self, name: str, state: dict[str, Any]) -> Any:
        """An object of a class that the setup and the program both define."""
        made = object.__new__(self.namespace[name])
        made.__dict__.update(state)
        return made

    def keep(self, value: Any) -> int:
        """A number by which the other side may refer to the value."""
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self._kept)
            self._kept.append(value)
        return self._numbers[id(value)]

    def _send(self, message: Any, boxes: list[Any] | None = None) -> None:
        buffer = io.BytesIO()
        (_BoxPickler(buffer, self, boxes) if boxes else _Pickler(buffer, self)).dump(message)
        try:
            write_frame(self.write, buffer.getvalue())
        except OSError:
            raise self.gone() from None

    def _receive(self, boxes: list[Any]) -> Any:
        frame = read_frame(self.read)
        if frame is None:
            raise self.gone()
        try:
            return _Unpickler(io.BytesIO(frame), self, boxes).load()
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  no honest end sends such a thing
            raise Over("killed", f"the program's answer cannot be read: {error}") from None

    def _described(self, error: BaseException) -> tuple[str, str, list[Any], str, int]:
        """An exception as plain values: its name, its nearest builtin type, its arguments, its text, the program's line."""
        base = next(kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind)
        args = [value for value in error.args if type(value) in (*_SCALARS, bool, type(None))]
        try:
            text = str(error.msg if isinstance(error, SyntaxError) else error)
        except Exception:  # noqa: BLE001  the program's own __str__
            text = ""
        line, trace = getattr(error, "lineno", 0) or 0 if isinstance(error, SyntaxError) else 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == "<program>":
                line = trace.tb_lineno
            trace = trace.tb_next
        return type(error).__name__, base, args if len(args) == len(error.args) else [text], text[:2000], line

    def _rebuilt(self, name: str, base: str, args: list[Any], text: str, line: int) -> BaseException:
        known = [self.namespace.get(name), getattr(builtins, base, None)]
        kind = next((kind for kind in known if isinstance(kind, type) and issubclass(kind, Exception)), None)
        if kind is None:
            if not self.trusted:
                return Exception(text)
            return Over("exited", f"the program raised {name}: {text}" if text else f"the program raised {name}")
        try:
            error = kind(*args)
        except Exception:  # noqa: BLE001  a type that wants other arguments
            error = Exception(text)
        with contextlib.suppress(Exception):
            error.told = (str(name), str(text), int(line))  # type: ignore[attr-defined]
        return error


_CROSSING = {
    f"Channel.{name}": name for name in ("function", "stream", "opaque", "home", "instance")
}  # sent by name, bound to the receiver's channel
_HELPERS = {keys, values, pairs, *(getattr(Channel, name) for name in _CROSSING.values())}


class _Pickler(pickle.Pickler):
    def __init__(self, buffer: io.BytesIO, channel: Channel) -> None:
        super().__init__(buffer, protocol=5)
        self.channel = channel

    def reducer_override(self, value: Any) -> Any:
        """How anything that is not a plain number, text or container crosses."""
        kind, channel = type(value), self.channel
        if kind in _PLAIN or value is ...:
            return NotImplemented
        if isinstance(value, type) and (value in _PLAIN or (channel.trusted and _is_builtin(value))):
            return NotImplemented
        if kind is _FUNCTION and value in _HELPERS:
            return NotImplemented
        if kind is _BUILTIN and channel.trusted and _is_builtin(value):
            return NotImplemented
        if kind in _VIEWS:
            return _VIEWS[kind], (list(value),)
        far = value.number if kind is Opaque else getattr(value, "far", None) if kind is _FUNCTION else None
        if far is not None:
            return Channel.home, (far,)
        return self._base(value) or self._reference(value)

    def _base(self, value: Any) -> Any:
        """An object of a subclass of a plain type, as that plain type."""
        for base in _SCALARS:
            if isinstance(value, base):
                return base, base.__getnewargs__(value)
        for base, copy in _BOXES.items():
            if isinstance(value, base):
                return base, (copy(value),)
        return (frozenset, (list(value),)) if isinstance(value, frozenset) else None

    def _reference(self, value: Any) -> Any:
        channel, name = self.channel, str(getattr(value, "__name__", type(value).__name__))
        if isinstance(value, Iterator):
            return Channel.stream, (channel.keep(_puller(value)),)
        if channel.trusted and channel.namespace.get(type(value).__name__) is type(value):
            return Channel.instance, (type(value).__name__, vars(value))
        if callable(value):
            return Channel.function, (channel.keep(value), name)
        return Channel.opaque, (channel.keep(value), name, bool(value))


class _BoxPickler(_Pickler):
    """Names the receiver's own boxes instead of copying them."""

    def __init__(self, buffer: io.BytesIO, channel: Channel, boxes: list[Any]) -> None:
        super().__init__(buffer, channel)
        self.known = {id(box): number for number, box in enumerate(boxes)}

    def persistent_id(self, value: Any) -> int | None:
        return self.known.get(id(value))


class _Unpickler(pickle.Unpickler):
    def __init__(self, buffer: io.BytesIO, channel: Channel, boxes: list[Any]) -> None:
        super().__init__(buffer)
        self.channel, self.boxes = channel, boxes

    def persistent_load(self, number: Any) -> Any:
        return self.boxes[number]

    def find_class(self, module: str, name: str) -> Any:
        """The few names that may stand in a message; everything else is refused."""
        if (module, name) in _NAMED:
            return _NAMED[module, name]
        if module == __name__ and name in _CROSSING:
            return getattr(self.channel, _CROSSING[name])
        if module == __name__ and name in ("keys", "values", "pairs"):
            return globals()[name]
        if module == "builtins" and not self.channel.trusted:
            return getattr(builtins, name)
        raise pickle.UnpicklingError(f"{module}.{name} may not cross")


_FUNCTION, _BUILTIN = type(keys), type(len)


def _is_builtin(value: Any) -> bool:
    return getattr(builtins, value.__name__, None) is value


def _puller(source: Iterator[Any]) -> Callable[[int], tuple[list[Any], bool]]:
    """A function that takes the next portion of an iterator; an error waits until what came before it was taken."""
    late: list[Exception] = []

    def pull(size: int) -> tuple[list[Any], bool]:
        if late:
            raise late.pop()
        items: list[Any] = []
        try:
            items.extend(itertools.islice(source, size))
        except Exception as error:
            if not items:
                raise
            late.append(error)
            return items, False
        return items, len(items) < size

    return pull


def find_boxes(value: Any) -> list[Any]:
    """Every list, dict, set, bytearray and deque in a value, once, in an order that both sides find."""
    found: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple(_BOXES)):
            if id(item) in found:
                continue
            found[id(item)] = item
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple | collections.deque):
            waiting.extend(item)
    return list(found.values())[1:]  # not the keyword arguments' own dict


def _contents(box: Any) -> Any:
    return [*box.keys(), *box.values()] if isinstance(box, dict) else list(box)


def _plain_box(box: Any) -> Any:
    return next(copy(box) for base, copy in _BOXES.items() if isinstance(box, base))


def _refill(box: Any, content: Any) -> None:
    box.clear()
    (box.update if isinstance(box, dict | set) else box.extend)(content)


def read_frame(descriptor: int) -> bytes | None:
    """One frame (a length, then that many bytes), or None where the line is closed."""
    head = _read(descriptor, 8)
    return _read(descriptor, int.from_bytes(head, "big")) if head is not None else None


def _read(descriptor: int, size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = os.read(descriptor, min(size - len(parts), 1 << 20))
        if not part:
            return None
        parts += part
    return bytes(parts)


def write_frame(descriptor: int, content: bytes) -> None:
    """Write one frame."""
    rest = memoryview(len(content).to_bytes(8, "big") + content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
