"""Azure's own clients for Python, unchanged, against the double.

Argument: a file with JSON that says where the double is and what is in it. Prints what was seen as JSON.
"""

import hashlib
import json
import socket
import sys

from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import KeyClient, KeyCurveName
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

with open(sys.argv[1], encoding="utf-8") as file:
    given = json.load(file)

# What DNS would say. The clients themselves are as they were published.
addresses = socket.getaddrinfo


def resolve(host, *arguments, **named):
    return addresses("127.0.0.1" if str(host).endswith(".double.test") else host, *arguments, **named)


socket.getaddrinfo = resolve


def credential(secret):
    return ClientSecretCredential(
        given["tenant"],
        given["client"],
        secret,
        authority=given["authority"],
        disable_instance_discovery=True,
        connection_verify=given["ca"],
    )


def refused(call):
    try:
        call()
    except HttpResponseError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "message": str(error)}
    raise AssertionError("that should have been refused")


options = {"credential": credential(given["secret"]), "connection_verify": given["ca"]}
keys = KeyClient(given["vault"], **options)
certificates = CertificateClient(given["vault"], **options)
seen = {}


def sign(key, algorithm, digest):
    result = CryptographyClient(key, **options).sign(algorithm, digest)
    assert result.key_id == key.id, (result.key_id, key.id)
    return result.signature


message = b"what is signed"
digest = hashlib.sha256(message).digest()
certificate = certificates.get_certificate("root-p256")
public = x509.load_der_x509_certificate(bytes(certificate.cer)).public_key()
key = keys.get_key("root-p256", certificate.properties.version)
raw = sign(key, SignatureAlgorithm.es256, digest)
r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
seen["certificate"] = certificate.properties.version

rsa = certificates.get_certificate_version("root-rsa", given["rsa_version"])
public = x509.load_der_x509_certificate(bytes(rsa.cer)).public_key()
key = keys.get_key("root-rsa")
public.verify(sign(key, SignatureAlgorithm.rs256, digest), message, padding.PKCS1v15(), hashes.SHA256())
pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
public.verify(sign(key, SignatureAlgorithm.ps256, digest), message, pss, hashes.SHA256())

# A key of the client's own making, and a second version of it.
first = keys.create_ec_key("made", curve=KeyCurveName.p_384)
second = keys.create_ec_key("made", curve=KeyCurveName.p_384)
raw = sign(first, SignatureAlgorithm.es384, hashlib.sha384(message).digest())
assert len(raw) == 96, len(raw)
versions = sorted(one.version for one in keys.list_properties_of_key_versions("made"))
assert versions == sorted([first.properties.version, second.properties.version]), versions
assert keys.get_key("made").properties.version == second.properties.version

seen["disabled"] = refused(lambda: sign(keys.get_key("disabled"), SignatureAlgorithm.es256, digest))
seen["missing"] = refused(lambda: keys.get_key("nope"))
assert seen["missing"]["kind"] == ResourceNotFoundError.__name__, seen
stranger = KeyClient(given["vault"], credential("wrong"), connection_verify=given["ca"])
try:
    stranger.get_key("root-p256")
    raise AssertionError("that should have been refused")
except ClientAuthenticationError as error:
    seen["stranger"] = str(error)

print(json.dumps(seen))
