"""Reads GS1 EPCIS 2.0 documents, JSON-LD or XML, and splits them into events.

A document lies in a folder as NAME.jsonld or NAME.xml, beside NAME.hashes with one published event
hash (GS1 Core Business Vocabulary 2.0, section 8.9) for each of its events, in order.

An event is kept as bytes of its own, in canonical form, so that anybody who has the event can
compute its content hash: JSON with sorted keys and without blanks, together with the `@context`
that its terms refer to; XML by Canonical XML 2.0.
"""

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

MAX_DOCUMENT_BYTES = 4 << 20
MAX_EVENTS = 10_000
HASH_NAME = re.compile(r"ni:///sha-256;([0-9a-f]{64})\?ver=CBV2\.0")


class BadDocument(ValueError):
    """A document that is not EPCIS 2.0, or has no hash for each of its events."""


@dataclass(frozen=True)
class Event:
    document: str
    index: int
    event_hash: bytes
    content: bytes
    step: str
    """The business step, without its vocabulary's prefix: shipping, receiving, ..."""


def read_folder(folder: Path) -> Iterator[Event]:
    """Yield the events of every document that has published hashes, in order of file name."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".jsonld", ".xml") and path.with_suffix(".hashes").exists():
            yield from read_document(path)


def read_document(path: Path) -> list[Event]:
    """Return the events of one document. Raises BadDocument."""
    data = path.read_bytes()
    if len(data) > MAX_DOCUMENT_BYTES:
        raise BadDocument(f"{path.name}: {len(data)} bytes, expected at most {MAX_DOCUMENT_BYTES}")
    parts = split_json(path, data) if path.suffix == ".jsonld" else split_xml(path, data)
    hashes = read_hashes(path.with_suffix(".hashes"))
    if len(parts) != len(hashes) or len(parts) > MAX_EVENTS:
        raise BadDocument(f"{path.name}: {len(parts)} events, expected {len(hashes)} as hashed")
    return [
        Event(path.name, index, event_hash, content, shorten(step))
        for index, (event_hash, (content, step)) in enumerate(zip(hashes, parts, strict=True))
    ]


def read_hashes(path: Path) -> list[bytes]:
    """Return the published event hashes, which are names as in RFC 6920."""
    hashes = []
    for line in path.read_text(encoding="utf-8").split():
        found = HASH_NAME.fullmatch(line)
        if found is None:
            raise BadDocument(f"{path.name}: {line[:80]}, expected ni:///sha-256;<hex>?ver=CBV2.0")
        hashes.append(bytes.fromhex(found[1]))
    return hashes


def split_json(path: Path, data: bytes) -> list[tuple[bytes, str]]:
    """Return (content, business step) of each event of a document or a query's answer."""
    try:
        document = json.loads(data)
        body = document["epcisBody"]
        if "queryResults" in body:
            body = body["queryResults"]["resultsBody"]
        events = body["eventList"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadDocument(f"{path.name}: {error!r}, expected an EPCIS document") from None
    context = document.get("@context")
    return [(canonical_json({"@context": context} | e), str(e.get("bizStep", ""))) for e in events]


def canonical_json(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def split_xml(path: Path, data: bytes) -> list[tuple[bytes, str]]:
    """Return (content, business step) of each event below an EventList, out of its wrappers."""
    # Entities could blow a small document up; EPCIS needs no document type declaration.
    if b"<!DOCTYPE" in data:
        raise BadDocument(f"{path.name}: a document type declaration, expected none")
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise BadDocument(f"{path.name}: {error}, expected XML") from None
    parts = []
    for events in root.iter():
        if local_name(events) != "EventList":
            continue
        for event in events:
            while local_name(event) == "extension":
                event = event[0]
            event.tail = None
            text = ElementTree.tostring(event, encoding="unicode")
            canonical = StringIO()
            ElementTree.canonicalize(text, out=canonical, strip_text=True)
            step = event.findtext("bizStep") or ""
            parts.append((canonical.getvalue().encode("utf-8"), step))
    return parts


def local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def shorten(step: str) -> str:
    """Return `shipping` for urn:epcglobal:cbv:bizstep:shipping, cbv:BizStep-shipping and so on."""
    return re.split(r"[:/#-]", step.strip())[-1]
