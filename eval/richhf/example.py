"""`tf.train.Example` without TensorFlow: its messages are described at run time, and protobuf parses them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from actors.errors import Reject

_KINDS = ("bytes_list", "float_list", "int64_list")

_Field = descriptor_pb2.FieldDescriptorProto


class Example:
    """The features of one record.

    Args:
        data: the encoded message; it may be damaged.

    Raises:
        Reject: `bad_example`.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._features = _message().FromString(data).features.feature
        except DecodeError as error:
            raise Reject(
                "bad_example", f"its data are no tf.train.Example: {str(error) or 'they cannot be parsed'}"
            ) from None

    def text(self, name: str) -> str:
        """A feature of one value that is UTF-8 text.

        Raises:
            Reject: `bad_feature`.
        """
        try:
            return self.bytes(name).decode("utf-8")
        except UnicodeDecodeError:
            raise Reject("bad_feature", f"{name} is not UTF-8 text") from None

    def bytes(self, name: str) -> bytes:
        """A feature of one value that is bytes; raises as `text` does."""
        return bytes(self._one(name, "bytes_list"))

    def number(self, name: str) -> float:
        """A feature of one value that is a float; raises as `text` does."""
        return float(self._one(name, "float_list"))

    def _one(self, name: str, kind: str) -> Any:
        if name not in self._features:
            raise Reject("bad_feature", f"there is no feature {name}; there are: {self._names()}")
        feature = self._features[name]
        found = feature.WhichOneof("kind")
        values: Sequence[Any] = getattr(feature, kind).value
        if found != kind or len(values) != 1:
            held = f"{len(getattr(feature, found).value):,} values in {found}" if found else "no value"
            raise Reject("bad_feature", f"{name} holds {held}; one value in {kind} is wanted")
        return values[0]

    def _names(self) -> str:
        names = sorted(self._features)
        return ", ".join(repr(name[:60]) for name in names[:12]) or "none"


@cache
def _message() -> Any:
    """The class `Example` of tensorflow/core/example: a map of features, each a list of bytes, floats or integers."""
    file = descriptor_pb2.FileDescriptorProto(
        name="flawforge_example.proto", package="flawforge", syntax="proto3"
    )
    for name, kind in (
        ("BytesList", _Field.TYPE_BYTES),
        ("FloatList", _Field.TYPE_FLOAT),
        ("Int64List", _Field.TYPE_INT64),
    ):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, type=kind, label=_Field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, kind_name in enumerate(_KINDS, start=1):
        type_name = f".flawforge.{kind_name.title().replace('_', '')}"
        _add_message(feature, kind_name, number, type_name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
    _add_message(entry, "value", 2, ".flawforge.Feature")
    _add_message(features, "feature", 1, ".flawforge.Features.FeatureEntry").label = _Field.LABEL_REPEATED
    _add_message(file.message_type.add(name="Example"), "features", 1, ".flawforge.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("flawforge.Example"))


def _add_message(to: Any, name: str, number: int, type_name: str) -> Any:
    return to.field.add(
        name=name,
        number=number,
        type=_Field.TYPE_MESSAGE,
        type_name=type_name,
        label=_Field.LABEL_OPTIONAL,
    )
