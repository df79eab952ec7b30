"""An identity provider as far as its callers see it: keys in a file, and tokens, good and bad."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://login.example", "darkroom"
_LIFE_S = 300.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key pair; `public` is its entry in the file."""

    id: str
    private: Any
    public: dict[str, Any]
    algorithm: str

    @classmethod
    def rsa(cls, key_id: str) -> SigningKey:
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = json.loads(RSAAlgorithm.to_jwk(private.public_key()))
        return cls(key_id, private, {**public, "kid": key_id, "alg": "RS256", "use": "sig"}, "RS256")

    @classmethod
    def ec(cls, key_id: str) -> SigningKey:
        private = ec.generate_private_key(ec.SECP256R1())
        public = json.loads(ECAlgorithm.to_jwk(private.public_key()))
        return cls(key_id, private, {**public, "kid": key_id, "alg": "ES256", "use": "sig"}, "ES256")


@dataclass
class Issuer:
    """Signs tokens; `publish` replaces the file of its keys."""

    path: Path
    key: SigningKey = field(default_factory=lambda: SigningKey.rsa("first"))

    def publish(self, *keys: SigningKey) -> None:
        """Put these keys into the file, its own by default, as one move."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"keys": [key.public for key in keys or (self.key,)]}))
        fresh.replace(self.path)

    def token(self, signed_by: SigningKey | None = None, **claims: object) -> str:
        """Return a token; a claim that is None is left out."""
        key, now_s = signed_by or self.key, time.time()
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "tenant": "acme", "iat": now_s, "exp": now_s + _LIFE_S}
        told = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(told, key.private, key.algorithm, headers={"kid": key.id})
