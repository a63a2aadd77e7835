"""Encryption of message bodies at rest: AES-256 in Galois/counter mode.

A sealed body is SEALED, a nonce of 12 bytes, then ciphertext with its tag; the id of the message is
authenticated with it. No other form of a body starts with the byte SEALED (see wire/bodies.py), so sealed
and plain bodies stand side by side in a queue and each is read for what it is.
"""

import hashlib
import secrets

from sukkal.errors import Unavailable
from sukkal.stores.contract import Documents, Shelf

SEALED = 1
_NONCE = 12
_PROOF = (Shelf("service", ""), "encryption")  # a sealed record: who opens it has the key


def is_sealed(body: bytes) -> bool:
    return body[:1] == bytes([SEALED])


class WrongKey(Exception):
    """The store holds messages that this key does not open."""


class Cipher:
    """Seals and opens bodies with a key derived from the operator's setting; without one, opens nothing."""

    def __init__(self, key: str | None) -> None:
        self._key = None
        if key is not None:
            # Slow to import, and only needed with a key.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._key = AESGCM(hashlib.sha256(key.encode()).digest())

    @property
    def ready(self) -> bool:
        return self._key is not None

    def seal(self, body: bytes, id_: str) -> bytes:
        """A body as it is stored. Only with a key."""
        assert self._key is not None
        nonce = secrets.token_bytes(_NONCE)
        return bytes([SEALED]) + nonce + self._key.encrypt(nonce, body, id_.encode())

    def open(self, body: bytes, id_: str) -> bytes:
        """A body as it was posted, whether sealed or not; Unavailable when this key does not open it."""
        if body[0] != SEALED:
            return body
        if self._key is None:
            raise Unavailable("The message is encrypted; message_encryption_key is not configured.")
        from cryptography.exceptions import InvalidTag

        nonce, sealed = body[1 : 1 + _NONCE], body[1 + _NONCE :]
        try:
            return self._key.decrypt(nonce, sealed, id_.encode())
        except InvalidTag as exc:
            raise Unavailable("The message was encrypted with another message_encryption_key.") from exc


async def check_key(cipher: Cipher, documents: Documents, *, now: float) -> None:
    """Raise WrongKey unless the cipher opens what was sealed in this store before.

    To be asked at the start: a service with the wrong key could take encrypted messages and not give them.
    """
    if not await proven(cipher, documents, now=now) and cipher.ready:
        shelf, name = _PROOF
        await documents.put(shelf, name, cipher.seal(b"{}", name), expect=0, now=now)


async def proven(cipher: Cipher, documents: Documents, *, now: float = 0.0) -> bool:
    """Raise WrongKey as `check_key` does, but write nothing; False when there is nothing to open."""
    shelf, name = _PROOF
    proof = await documents.get(shelf, name, now=now)
    if proof is None:
        return False
    try:
        cipher.open(proof.value, name)
    except Unavailable as exc:
        raise WrongKey(
            "The store holds encrypted messages, and message_encryption_key is not the key they were "
            "encrypted with: set it to that key."
        ) from exc
    return True
