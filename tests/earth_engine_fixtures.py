"""Fixtures of the tests that talk to `earth_engine_server` through the real client library."""

import earth_engine_server as service
import ee
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from data_prep.earth_engine_curation import client


@pytest.fixture(scope="session")
def private_key():
    key = rsa.generate_private_key(65537, 1024)  # short, for speed
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*encoding).decode()


@pytest.fixture
def server():
    with service.running() as server:
        yield server


@pytest.fixture
def connect(server, private_key, tmp_path, monkeypatch):
    """A function that signs in at the server as a service account."""
    # The client library asks another address for a list of deprecated collections, in vain without a network.
    monkeypatch.setattr(ee.deprecation, "_FetchDataCatalogStac", dict, raising=False)
    key = service.write_key(tmp_path / "key.json", server, private_key)

    def connect_(what=service.SETTINGS, traffic=service.TRAFFIC, project="my-project", **kwargs):
        return client.EarthEngine(what, traffic, project, server.url, str(key), **kwargs)

    yield connect_
    ee.Reset()
