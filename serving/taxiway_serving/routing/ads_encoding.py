"""Plain JSON resources as the bytes that Envoy reads: protobuf's wire format, by the classes of envoy-data-plane.

The classes are only asked for their fields. Building messages out of them takes 10 ms for a cluster, and a controller
that takes over a thousand handles must not be silent for a minute.
"""

import hashlib
import json
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import import_module
from typing import Any, Final

from taxiway_serving.errors import InvalidSpecError
from taxiway_serving.routing.cluster_resources import TYPE, Json
from taxiway_serving.wire import FIXED_64, VARINT, field_bytes, varint

_PACKAGE: Final = "envoy_data_plane"
_MASK_64: Final = (1 << 64) - 1
_INTEGERS: Final = ("int32", "int64", "uint32", "uint64")
_DURATION: Final = "Duration"
_STRUCT: Final = "Struct"
_HASH_LENGTH: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource, ready to be sent.

    Attributes:
        version: Hash of its content: equal resources have equal versions, whichever controller made them.
        body: Its bytes.
    """

    version: str
    body: bytes


class Encoder:
    """Makes resources; one that was made before is found again by its content."""

    def __init__(self) -> None:
        self._made: dict[str, Resource] = {}

    def resource(self, value: Json) -> Resource:
        """Return the resource of a JSON value that names its type.

        Raises:
            InvalidSpecError: If Envoy has no such field, or it holds no such value.
        """
        version = version_of(value)
        if version not in self._made:
            body = encoded(value["@type"], {name: item for name, item in value.items() if name != "@type"})
            self._made[version] = Resource(version=version, body=body)
        return self._made[version]

    def keep(self, versions: Iterable[str]) -> None:
        """Forget all but these versions, so that memory does not grow with time."""
        wanted = set(versions)
        self._made = {version: made for version, made in self._made.items() if version in wanted}


def version_of(value: Json) -> str:
    """Return the hash of a JSON value."""
    content = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:_HASH_LENGTH]


def encoded(type_url: str, value: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message.

    Args:
        type_url: Its type, with the prefix that Envoy gives types.
        value: Its fields by name, as protobuf writes them in JSON.

    Raises:
        InvalidSpecError: If there is no such field, or it cannot hold the value.
    """
    try:
        return _message(_class(type_url.removeprefix(TYPE)), value)
    except (KeyError, TypeError, ValueError, ArithmeticError, struct.error) as error:
        raise InvalidSpecError((f"{type_url} cannot be encoded: {error}",), "resource") from error


@dataclass(frozen=True, slots=True)
class _Field:
    """How a field is written: its number, and what makes bytes of one value; `is_packed` for repeated numbers."""

    number: int
    kind: str
    is_repeated: bool
    message: Any
    values: Any = None


@cache
def _class(name: str) -> Any:
    package, _, message = name.rpartition(".")
    with warnings.catch_warnings():
        # The generated code warns of what pydantic will do one day.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = import_module(f"{_PACKAGE}.{package}")
    # Where protobuf writes HTTPFault, the generated classes may say HttpFault.
    by_name = {each.lower(): each for each in dir(module)}
    return getattr(module, by_name[message.lower()])


@cache
def _fields(message: Any) -> Mapping[str, _Field]:
    meta = message._betterproto  # noqa: SLF001 - the only place where the classes keep their fields' types
    found = {}
    for name, each in meta.meta_by_field_name.items():
        kind, of_type, values = each.proto_type, meta.cls_by_field[name], None
        if kind == "map":
            values = _Field(2, each.map_meta[1].proto_type, False, meta.cls_by_field[f"{name}.value"])
        elif each.unwrap is not None:
            of_type = each.unwrap()
        found[name] = _Field(each.number, kind, bool(each.repeated), of_type, values)
    return found


def _message(message: Any, value: Any) -> bytes:
    name = message.__name__
    if name == _DURATION:
        return _duration(value)
    if name == _STRUCT:
        return _struct(value)
    if name == "Any":
        inner = {key: item for key, item in value.items() if key != "@type"}
        return field_bytes(1, value["@type"].encode()) + field_bytes(2, encoded(value["@type"], inner))
    fields = _fields(message)
    if not isinstance(value, Mapping):
        # A number or text where a message is wanted: protobuf's wrappers, which have one field.
        value = {"value": value}
    return b"".join(_field(fields[key], item) for key, item in value.items())


def _field(field: _Field, value: Any) -> bytes:
    if field.kind == "map":
        entries = (field_bytes(1, key.encode()) + _single(field.values, item) for key, item in value.items())
        return b"".join(field_bytes(field.number, entry) for entry in entries)
    if field.is_repeated:
        return b"".join(_single(field, item) for item in value)
    return _single(field, value)


def _single(field: _Field, value: Any) -> bytes:
    if field.kind == "message":
        return field_bytes(field.number, _message(field.message, value))
    if field.kind == "string":
        return field_bytes(field.number, value.encode())
    if field.kind == "double":
        return varint(field.number << 3 | FIXED_64) + struct.pack("<d", value)
    return varint(field.number << 3 | VARINT) + varint(_number(field, value) & _MASK_64)


def _number(field: _Field, value: Any) -> int:
    if field.kind == "enum" and isinstance(value, str):
        return int(_enum(field.message)[value])
    if field.kind == "bool" or field.kind in _INTEGERS or field.kind == "enum":
        return int(value)
    raise TypeError(f"no field of kind {field.kind} is known")


@cache
def _enum(values: Any) -> Mapping[str, int]:
    named = {each.name: int(each) for each in values}
    return named | {
        name: int(number) for name, number in values.betterproto_renamed_proto_names_to_value().items()
    }


def _duration(value: str) -> bytes:
    try:
        nanoseconds = int(Decimal(value.removesuffix("s")) * 10**9)
    except InvalidOperation as error:
        raise ValueError(f"a duration is written as 0.5s, got {value!r}") from error
    if nanoseconds < 0:
        raise ValueError(f"a duration is never negative, got {value!r}")
    seconds, rest = divmod(nanoseconds, 10**9)
    return varint(1 << 3) + varint(seconds) + varint(2 << 3) + varint(rest)


def _struct(value: Mapping[str, Any]) -> bytes:
    entries = (field_bytes(1, key.encode()) + field_bytes(2, _value(item)) for key, item in value.items())
    return b"".join(field_bytes(1, entry) for entry in entries)


def _value(value: Any) -> bytes:
    """Return a `google.protobuf.Value`: whatever JSON has."""
    kinds: Mapping[type, Callable[[Any], bytes]] = {
        bool: lambda each: varint(4 << 3) + varint(int(each)),
        int: lambda each: varint(2 << 3 | FIXED_64) + struct.pack("<d", each),
        float: lambda each: varint(2 << 3 | FIXED_64) + struct.pack("<d", each),
        str: lambda each: field_bytes(3, each.encode()),
        dict: lambda each: field_bytes(5, _struct(each)),
    }
    return kinds[type(value)](value)
