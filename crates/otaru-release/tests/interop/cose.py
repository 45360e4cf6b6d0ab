"""Release files with other people's CBOR, COSE and Ed25519: cbor2, pycose and cryptography.

    cose.py read FILE.otaru PUB.pem      verifies twice, prints the manifest as JSON
    cose.py make IMAGE.bin KEY.pem OUT   makes a release of its own, with the raw payload only
"""

import hashlib
import json
import struct
import sys

import cbor2
from cryptography.hazmat.primitives import serialization
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import CoseMessage, Sign1Message

MAGIC = b"\x93OTARU\n\x01"


def raw_public(key):
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def key_id(public):
    return hashlib.sha256(raw_public(public)).digest()[:8]


def verify(envelope, public):
    """The payload, if pycose and cryptography both find the signature good."""
    message = CoseMessage.decode(envelope)
    assert isinstance(message, Sign1Message)
    message.key = OKPKey(crv=Ed25519, x=raw_public(public))
    assert message.verify_signature(), "pycose refuses the signature"
    assert message.phdr[KID] == key_id(public) and message.uhdr == {}

    tagged = cbor2.loads(envelope)
    assert tagged.tag == 18
    protected, unprotected, payload, signature = tagged.value
    assert cbor2.loads(protected) == {1: -8, 4: key_id(public)} and unprotected == {}
    public.verify(signature, cbor2.dumps(["Signature1", protected, b"", payload]))
    assert cbor2.dumps(tagged, canonical=True) == envelope, "not the deterministic encoding"
    return payload


def read(path, key_path):
    data = open(path, "rb").read()
    assert data[:8] == MAGIC
    (length,) = struct.unpack_from("<I", data, 8)
    envelope, area = data[12 : 12 + length], data[12 + length :]
    public = serialization.load_pem_public_key(open(key_path, "rb").read())
    payload = verify(envelope, public)
    manifest = cbor2.loads(payload)
    assert cbor2.dumps(manifest, canonical=True) == payload, "not the deterministic encoding"
    assert list(manifest) == sorted(manifest) and manifest[1] == 1

    raw = next(p for p in manifest[10] if p[1] == 0)
    image = area[raw[2] : raw[2] + raw[3]]
    assert len(image) == manifest[7] and hashlib.sha256(image).digest() == manifest[6]
    blocks = [image[at : at + manifest[8]] for at in range(0, len(image), manifest[8])]
    assert b"".join(hashlib.sha256(block).digest() for block in blocks) == manifest[9]
    for frame in unpack(manifest, area):
        assert frame == blocks.pop(0), "a frame is not its block"

    names = {2: "product", 3: "chip_id", 4: "version", 5: "sequence", 7: "size", 8: "block_size", 12: "secure_version", 14: "also"}
    print(json.dumps({name: manifest.get(key) for key, name in names.items()} | {"image": manifest[6].hex()}))


def unpack(manifest, area):
    """The blocks that the LZMA payload brings, with Python's liblzma."""
    import lzma

    for payload in (p for p in manifest[10] if p[1] == 1):
        at, left = payload[2], manifest[7]
        for length in payload[4]:
            frame, block = area[at : at + length], min(left, manifest[8])
            if length < block:
                # The header of an .lzma file: lc = lp = pb = 0, the dictionary's size, the block's size.
                header = struct.pack("<BIQ", 0, 16384, block)
                frame = lzma.decompress(header + frame, format=lzma.FORMAT_ALONE)
            yield frame
            at, left = at + length, left - block


def make(image_path, key_path, out):
    image = open(image_path, "rb").read()
    private = serialization.load_pem_private_key(open(key_path, "rb").read(), None)
    public = private.public_key()
    text = lambda at: image[at : at + 32].split(b"\0")[0].decode()
    (chip,) = struct.unpack_from("<H", image, 12)
    digest = lambda data: hashlib.sha256(data).digest()
    manifest = {
        1: 1,
        2: text(32 + 48),
        3: chip,
        4: text(32 + 16),
        5: 1_000_000,
        6: digest(image),
        7: len(image),
        8: 65536,
        9: b"".join(digest(image[at : at + 65536]) for at in range(0, len(image), 65536)),
        10: [{1: 0, 2: 0, 3: len(image)}],
        14: ["lamp-pro", "lantern"],
    }
    message = Sign1Message(
        phdr={Algorithm: EdDSA, KID: key_id(public)}, payload=cbor2.dumps(manifest, canonical=True)
    )
    raw_private = private.private_bytes(
        serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
    )
    message.key = OKPKey(crv=Ed25519, x=raw_public(public), d=raw_private)
    envelope = message.encode()
    open(out, "wb").write(MAGIC + struct.pack("<I", len(envelope)) + envelope + image)


if __name__ == "__main__":
    {"read": read, "make": make}[sys.argv[1]](*sys.argv[2:])
