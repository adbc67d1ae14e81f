"""What an offline run of W&B holds, read from its transaction log: that is what ``wandb sync`` uploads."""

import json
import math
import struct
import time
from numbers import Real
from pathlib import Path

_BLOCK, _HEADER = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
ALLOWED = {"header", "run", "config", "telemetry", "metric", "history", "summary", "exit"}


def records_of(path):
    """Records of the ``.wandb`` file of a run that has ended; W&B's own process writes the last ones a little later."""
    for _ in range(100):
        records = _records(Path(path).read_bytes())
        if records and records[-1].WhichOneof("record_type") == "exit":
            return records
        time.sleep(0.2)
    raise AssertionError(f"{path} is incomplete")


def _records(data):
    """Protocol buffers in LevelDB's log format, behind a header of W&B's own.

    W&B no longer has a reader in Python: https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    from wandb.proto.wandb_internal_pb2 import Record

    assert data[:4] == b":W&B"
    position, parts, records = _HEADER, [], []
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + _HEADER])
        assert kind in (_FULL, _FIRST, _MIDDLE, _LAST)
        position += _HEADER + length
        if position > len(data):
            break
        parts.append(data[position - length : position])
        if kind in (_FULL, _LAST):
            records.append(Record.FromString(b"".join(parts)))
            parts = []
    return records


def log_of(run_folder):
    """The transaction log of the only offline run in a run folder."""
    (path,) = Path(run_folder).glob("wandb/offline-run-*/*.wandb")
    return path


def texts(message):
    """All texts in a protocol buffer."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else [value]
        for one in values:
            if field.message_type is not None:
                yield from texts(one)
            elif isinstance(one, str):
                yield one
            elif isinstance(one, bytes):
                yield one.decode(errors="replace")


def history(records):
    """Rows as they were logged, without W&B's own columns."""
    rows = [_items(record.history.item) for record in records if record.WhichOneof("record_type") == "history"]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def summary(records):
    """The last value of every key, as W&B's table shows it."""
    values = {}
    for record in records:
        values |= _items(record.summary.update)
    return values


def configuration(records):
    """The last value of every key, without W&B's own."""
    values = {}
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            values |= _items((record.run.config if kind == "run" else record.config).update)
    return {key: value for key, value in values.items() if key != "_wandb"}


def findings(path, forbidden):
    """What an offline run would upload though it must not: a list of complaints.

    Args:
        path: of the ``.wandb`` file.
        forbidden: texts that nothing may contain.
    """
    complaints = []
    records = records_of(path)
    for record in records:
        kind = record.WhichOneof("record_type")
        if kind not in ALLOWED:
            complaints.append(f"a record of type {kind}")
        complaints += [f"{kind} contains {word}" for text in texts(record) for word in forbidden if word in text]
    for record in records:
        kind = record.WhichOneof("record_type")
        items = {"history": record.history.item, "summary": record.summary.update}
        for key, value in _items(items.get(kind, ())).items():
            numbers = value.values() if key == "_wandb" and isinstance(value, dict) else [value]
            complaints += [f"{kind}: {key} is {one!r}" for one in numbers if not isinstance(one, Real)]
    files = Path(path).parent / "files"
    names = {str(file.relative_to(files)) for file in files.rglob("*") if file.is_file()}
    complaints += [f"the file {name}" for name in sorted(names - {"config.yaml", "wandb-summary.json"})]
    for name in names:
        content = (files / name).read_bytes()
        complaints += [f"{name} contains {word}" for word in forbidden if word.encode() in content]
    return complaints


def _items(items):
    return {item.key or "/".join(item.nested_key): _value(item.value_json) for item in items}


def _value(text):
    return json.loads(text, parse_constant=lambda name: math.nan if name == "NaN" else float(name))
