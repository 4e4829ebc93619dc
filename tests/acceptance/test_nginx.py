"""What nginx passes to S3, with a real nginx and an S3 server that checks signatures."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

from scaling_kit.cluster import nginx
from scaling_kit.embedded import free_port
from tests import settings as test_settings
from tests.acceptance.front import needs_nginx, served

pytestmark = needs_nginx


@pytest.fixture
def s3_client(s3: str):
    """Signs as the server side does, for the endpoint it knows."""
    return boto3.client(
        "s3",
        endpoint_url=s3,
        region_name="us-east-1",
        aws_access_key_id=test_settings.S3.access_key,
        aws_secret_access_key=test_settings.S3.secret_key,
        config=Config(
            signature_version="s3v4", request_checksum_calculation="when_required", s3={"addressing_style": "path"}
        ),
    )


@pytest.fixture
def site(s3: str, tmp_path: Path) -> Iterator[str]:
    front = nginx.Front(
        listen=f"127.0.0.1:{free_port()}", folder=tmp_path, web=("127.0.0.1:1",), s3_endpoint=s3, upload_max_bytes=2**20
    )
    with served(front) as url:
        yield url


@pytest.mark.parametrize("key", ["plain.jpg", "with space/ünï+çödé & more.jpg", "a%2Fb.jpg"])
def test_presigned_urls__work_below_s3(site: str, s3_client, key: str) -> None:
    for method, operation, data in (("PUT", "put_object", b"photo"), ("GET", "get_object", None)):
        url = s3_client.generate_presigned_url(operation, {"Bucket": "test", "Key": key})
        through_nginx = url.replace(s3_client.meta.endpoint_url, f"{site}/s3")
        request = urllib.request.Request(through_nginx, data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            answer = response.read()
    assert answer == b"photo"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert s3_client.get_object(Bucket="test", Key=key)["Body"].read() == b"photo"


def test_changed_signature__is_refused(site: str, s3_client) -> None:
    url = s3_client.generate_presigned_url("get_object", {"Bucket": "test", "Key": "plain.jpg"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace(s3_client.meta.endpoint_url, f"{site}/s3")[:-1] + "x", timeout=10)
    with refused.value:
        assert refused.value.code == 403


def test_upload_beyond_the_limit__is_refused(site: str) -> None:
    request = urllib.request.Request(f"{site}/s3/test/large", data=bytes(2**20 + 1), method="PUT")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    with refused.value:
        assert refused.value.code == 413
